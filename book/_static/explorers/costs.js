// The cost of a CT-Net, counted as `ctnet.count_cost` counts it: multiply-adds of convolutions and linear layers, two
// for every value that a batch normalisation passes in evaluation, one for every value that the head's pooling reads.

// Multiply-adds and parameters of a network by stage. `data` is what `study.chapters.explorers.cost_data` returns.
function countCost(data, chosen) {
  const backbone = data.backbones[chosen.backbone];
  const replaced = new Set(backbone.replaced[chosen.blocks].convs);
  const size = data.pixels.indexOf(chosen.size);
  const stages = new Map();
  let params = 0;
  const add = (stage, macs, weights) => {
    stages.set(stage, (stages.get(stage) || 0) + macs);
    params += weights;
  };
  // A convolution at some positions, each output reading `reads` values, and the normalisation behind it.
  const convolve = (stage, outputs, reads, positions, normalised = true) => {
    add(stage, outputs * reads * positions, outputs * reads);
    if (normalised) add(stage, 2 * outputs * positions, 2 * outputs);
  };
  for (const layer of backbone.layers) {
    const area = layer.areas[size];
    if (!replaced.has(layer.name)) {
      const [height, width] = layer.kernel;
      convolve(layer.stage, layer.outputs, layer.inputs * height * width, area * chosen.frames);
      continue;
    }
    const channels = layer.outputs;
    data.sizes[channels][chosen.sizes].forEach((along, k) => {
      const inputs = ((k ? channels : layer.inputs) * along) / channels; // that one group of the convolution reads
      const positions = area * chosen.frames;
      if (k && chosen.pointwise) convolve(layer.stage, channels, channels, positions);
      convolve(layer.stage, channels, 9 * inputs, positions); // spatial, 1 x 3 x 3
      convolve(layer.stage, channels, 3 * inputs, positions); // temporal, 3 x 1 x 1
      if (chosen.excitation === "te") {
        const between = Math.max(Math.floor(along / 4), 1); // channels of a group between both convolutions
        for (const [kernel, pooled] of [[9, area], [3, chosen.frames], [1, chosen.frames]]) {
          convolve(layer.stage, (channels / along) * between, kernel * along, pooled);
          convolve(layer.stage, channels, kernel * between, pooled, false);
        }
      } else if (chosen.excitation === "se") {
        const between = Math.max(Math.floor(channels / 16), 1);
        add(layer.stage, 2 * channels * between, 2 * channels * between + channels + between);
      }
    });
  }
  const { channels, areas } = backbone.features;
  add("head", channels * areas[size] * chosen.frames, 0);
  add("head", channels * chosen.classes * chosen.frames, (channels + 1) * chosen.classes);
  return { stages, macs: [...stages.values()].reduce((sum, macs) => sum + macs, 0), params };
}

document.addEventListener("DOMContentLoaded", () => {
  const { element, choices, list, key } = Explorers;

  Explorers.start("costs", (place, data) => {
    const chosen = {
      backbone: "r50", blocks: "7", sizes: 2, pointwise: true, excitation: "te", frames: 8, size: 256, classes: 174,
    };
    const [blocks, ks] = [element("span"), element("span")];
    const sum = element("output", { class: "costs-sum" });
    const shown = element("div", { class: "costs-shown" });
    const pairs = (values) => values.map((value) => [value, String(value)]);
    const usual = { r50: "7", r101: "11", inceptionv3: "4" };

    // What can be chosen depends on the backbone: InceptionV3 has convolutions that K = 3 does not divide.
    function set(changes) {
      Object.assign(chosen, changes);
      if ("backbone" in changes) {
        chosen.blocks = usual[chosen.backbone];
        const numbers = Object.keys(data.backbones[chosen.backbone].replaced).sort((a, b) => a - b);
        blocks.replaceChildren(list("CT-Modules", pairs(numbers), chosen.blocks, (number) => set({ blocks: number })));
      }
      if ("backbone" in changes || "blocks" in changes) {
        const { sizes } = data.backbones[chosen.backbone].replaced[chosen.blocks];
        if (!sizes.includes(chosen.sizes)) chosen.sizes = 2;
        ks.replaceChildren(choices("K", pairs(sizes), chosen.sizes, (k) => set({ sizes: k })));
      }
      show();
    }

    // The rows that the paper prints of this very network; without modules their options mean nothing.
    function printed() {
      const read = Object.keys(chosen).filter(
        (name) => chosen.blocks !== "0" || !["sizes", "pointwise", "excitation"].includes(name),
      );
      return data.printed.filter((row) => read.every((name) => row.settings[name] === chosen[name]));
    }

    function bar(name, cost, most) {
      const parts = [...cost.stages].map(([stage, macs], index) =>
        element("span", {
          class: `part part-${index}`, style: `width:${(100 * macs) / most}%`, title: `${stage}: ${(macs / 1e9).toFixed(2)}`,
        }),
      );
      return element(
        "div", { class: "costs-row" },
        element("span", { class: "costs-name" }, name),
        element("span", { class: "costs-bar" }, ...parts),
        element("b", {}, (cost.macs / 1e9).toFixed(2)),
      );
    }

    function show() {
      const [cost, plain] = [countCost(data, chosen), countCost(data, { ...chosen, blocks: "0" })];
      const most = Math.max(cost.macs, plain.macs);
      const meanings = [...cost.stages].map(([stage, macs], at) => [`part-${at}`, `${stage} ${(macs / 1e9).toFixed(2)}`]);
      const rows = printed().map((row) =>
        element("li", {}, element("a", { href: row.link }, row.row), `: ${row.gflops} GFLOPs`, row.params ? `, ${row.params.toFixed(1)} M parameters` : ""),
      );
      sum.replaceChildren(
        element("b", {}, (cost.macs / 1e9).toFixed(2)), " GFLOPs a clip, ",
        element("b", {}, (cost.params / 1e6).toFixed(2)), " M parameters");
      shown.replaceChildren(
        bar("CT-Net", cost, most), bar("TSN", plain, most), key(meanings),
        element("p", {}, rows.length ? "Printed in the paper:" : "The paper prints no such network."),
        element("ul", {}, ...rows),
      );
    }

    const backbones = Object.entries(data.backbones).map(([name, about]) => [name, about.label]);
    place.append(
      element("div", { class: "explorer-controls" },
        choices("Backbone", backbones, chosen.backbone, (backbone) => set({ backbone })),
        blocks, ks,
        choices("PWConv", [[true, "yes"], [false, "no"]], chosen.pointwise, (pointwise) => set({ pointwise })),
        choices("Excitation", [["te", "TE"], ["se", "SE"], ["none", "none"]], chosen.excitation, (excitation) => set({ excitation })),
        list("Frames", pairs(data.frames), chosen.frames, (frames) => set({ frames })),
        list("Pixels", data.pixels.map((n) => [n, `${n} × ${n}`]), chosen.size, (size) => set({ size })),
        list("Classes", pairs(data.classes), chosen.classes, (classes) => set({ classes })),
      ),
      sum, shown,
    );
    set({ backbone: "r50" });
  });
});
