// Differences of accuracy between two networks, motion by motion. Accuracies and intervals come from the package.
document.addEventListener("DOMContentLoaded", () => {
  const { element, list, key } = Explorers;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const signed = (value) => (Math.abs(value) < 0.05 ? "0.0" : (value > 0 ? "+" : "−") + Math.abs(value).toFixed(1));

  Explorers.start("motions", (place, data) => {
    const names = Object.keys(data.networks);
    const chosen = [...data.chosen];
    const figure = element("div", { class: "differences twins-only" });
    const told = element("output", { class: "explorer-told" });

    // [low, high, whether it stands after the correction] of every motion; a pair is kept one way round only.
    function intervals([one, other]) {
      const kept = data.pairs[`${one}|${other}`];
      return kept ?? data.pairs[`${other}|${one}`].map(([low, high, stands]) => [-high, -low, stands]);
    }

    function draw() {
      const found = intervals(chosen);
      const seeds = data.motions.map((_, at) =>
        data.networks[chosen[0]][at].map((value, seed) => value - data.networks[chosen[1]][at][seed]),
      );
      const ends = [0, ...found.flatMap(([low, high]) => [low, high]), ...seeds.flat()];
      const margin = 0.04 * (Math.max(...ends) - Math.min(...ends));
      const [least, most] = [Math.min(...ends) - margin, Math.max(...ends) + margin];
      const at = (value) => `${((100 * (value - least)) / (most - least)).toFixed(2)}%`;
      const mark = (kind, value) => element("i", { class: kind, style: `left:${at(value)}` });
      const step = [1, 2, 5, 10, 20, 50].find((size) => (most - least) / size <= 6) ?? 100;
      const ticks = [];
      for (let tick = Math.ceil(least / step) * step; tick <= most; tick += step) ticks.push(tick);

      const rows = data.motions.map((motion, number) => {
        const [low, high, stands] = found[number];
        const [own, others] = chosen.map((name) => mean(data.networks[name][number]));
        const width = (100 * (high - low)) / (most - least);
        const track = element("span", { class: "track" },
          ...ticks.map((tick) => mark(tick === 0 ? "zero" : "tick", tick)),
          element("i", { class: "interval", style: `left:${at(low)};width:${width.toFixed(2)}%` }),
          ...seeds[number].map((value) => mark("seed", value)),
          mark("mean", own - others),
        );
        const numbers = `${signed(own - others)} (${signed(low)} to ${signed(high)})`;
        return element("div", { class: `difference${stands ? " stands" : ""}`, tabindex: 0 },
          element("span", { class: "difference-name" }, motion,
            element("small", {}, ` ${own.toFixed(0)} − ${others.toFixed(0)}`)),
          track,
          element("span", { class: "difference-told" }, `${numbers}; seeds ${seeds[number].map(signed).join(", ")}`),
        );
      });
      const axis = element("span", { class: "axis" }, ...ticks.map((tick) =>
        element("i", { style: `left:${at(tick)}` }, tick === 0 ? "0" : signed(tick).replace(".0", "")),
      ));
      figure.replaceChildren(
        element("div", { class: "difference-head" }, element("span"), element("span", {}, "difference, points")),
        ...rows,
        element("div", { class: "difference-foot", "aria-hidden": "true" }, element("span"), axis),
      );
      const [own, others] = chosen.map((name) => mean(data.networks[name].map(mean)));
      const standing = data.motions.filter((_, number) => found[number][2]);
      told.textContent =
        `All motions: ${chosen[0]} ${own.toFixed(1)} %; ${chosen[1]} ${others.toFixed(1)} %. ` +
        `After correction for ${data.motions.length} motions ` +
        (standing.length ? `p < 5 % for ${standing.join(", ")}.` : "none has p < 5 %.");
    }

    // A network is not compared with itself: taking the other one's swaps the two.
    function take(which, name) {
      if (chosen[1 - which] === name) chosen[1 - which] = chosen[which];
      chosen[which] = name;
      lists.forEach((made, number) => (made.querySelector("select").value = chosen[number]));
      draw();
    }

    const values = names.map((name) => [name, name]);
    const lists = ["Network", "minus network"].map((label, which) =>
      list(label, values, chosen[which], (name) => take(which, name)),
    );
    place.append(
      element("div", { class: "explorer-controls" }, ...lists),
      figure,
      key([["mean-key", "mean of the seeds, with its 95 % interval"], ["seed-key", "a seed"]]),
      told,
    );
    draw();
  });
});
