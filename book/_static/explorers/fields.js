// Receptive fields: which channels and which positions have reached one output, sub-operation by sub-operation.
// Every mask comes from the package, which measured it from gradients; this script only colours cells.
document.addEventListener("DOMContentLoaded", () => {
  const { element, choices, list, key, player } = Explorers;

  Explorers.start("fields", (place, data) => {
    const chosen = { k: 2, connection: "parallel", kernels: [3, 3], step: 2, channel: 5 };
    const controls = element("div", { class: "explorer-controls" });
    const grid = element("div", { class: "channel-grid", role: "group", "aria-label": "channels" });
    const voxels = element("div", { class: "voxels" });
    const told = element("output", { class: "explorer-told" });
    const steps = element("span");
    const cells = Array.from({ length: 16 }, (_, channel) => {
      const cell = element("button", { type: "button", onclick: () => set({ channel }) });
      cell.dataset.channel = channel;
      return cell;
    });
    grid.append(...cells);

    // The masks of the first `step` sub-operations.
    const channelsAfter = (step) => (step ? data.channels[chosen.k].steps[step - 1][chosen.channel] : "");
    const field = (step) => data.positions[chosen.connection][chosen.kernels.slice(0, step).join("")];

    // Whether a position of the whole box is reached after so many sub-operations: boxes are centred on the output.
    const reaches = (step, box, t, y, x) => {
      if (!step) return false;
      const { extent, frames } = field(step);
      const [dt, dy, dx] = [t, y, x].map((at, axis) => at - (box[axis] - extent[axis]) / 2);
      const inside = dt >= 0 && dt < extent[0] && dy >= 0 && dy < extent[1] && dx >= 0 && dx < extent[2];
      return inside && data.frames[frames[dt]][dy * extent[2] + dx] === "1";
    };

    function drawVoxels() {
      const [frames, height, width] = field(chosen.k).extent;
      const [across, up, gap] = [0.5, 0.3, Math.max(width * 0.5 + 0.8, 2.2)];
      const total = { x: (frames - 1) * gap + width * across, y: height + width * up };
      const shapes = { empty: "", before: "", now: "" };
      for (let t = 0; t < frames; t++)
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width; x++) {
            const kind = reaches(chosen.step - 1, field(chosen.k).extent, t, y, x)
              ? "before"
              : reaches(chosen.step, field(chosen.k).extent, t, y, x) ? "now" : "empty";
            const [left, top] = [t * gap + x * across, y + (width - x) * up];
            shapes[kind] += `M${left} ${top}l${across * 0.9} ${-up * 0.9}v.88l${-across * 0.9} ${up * 0.9}z`;
          }
      const drawing = element("svg", {
        viewBox: `-0.3 -0.3 ${total.x + 0.6} ${total.y + 0.6}`, role: "img",
        style: `max-height:${Math.min(15, 4 + total.y)}em`, "aria-label": "positions in time and space, a pane for each frame",
      });
      for (const [kind, shape] of Object.entries(shapes)) drawing.append(element("path", { d: shape, class: kind }));
      const middle = [((frames - 1) / 2) * gap + (width / 2) * across, height / 2 + (width / 2) * up];
      drawing.append(element("circle", { cx: middle[0], cy: middle[1], r: 0.2, class: "output" }));
      voxels.replaceChildren(drawing);
    }

    function draw() {
      const [before, now] = [channelsAfter(chosen.step - 1), channelsAfter(chosen.step)];
      cells.forEach((cell, channel) => {
        const reached = before[channel] === "1" ? "before" : now[channel] === "1" ? "now" : "empty";
        cell.className = reached + (channel === chosen.channel ? " output" : "");
        cell.setAttribute("aria-label", `channel ${channel + 1}, ${reached === "empty" ? "not reached" : "reached"}`);
        cell.setAttribute("aria-pressed", channel === chosen.channel);
      });
      drawVoxels();
      steps.firstChild.take(chosen.step);
      const { extent, frames } = field(chosen.step);
      const reached = [...now].filter((mark) => mark === "1").length;
      const positions = frames.reduce((sum, frame) => sum + data.frames[frame].split("1").length - 1, 0);
      told.textContent =
        `${reached} of ${now.length} channels; ${positions} of ${extent[0] * extent[1] * extent[2]} positions ` +
        `in a box of ${extent.join(" × ")}`;
    }

    const count = (most) => Array.from({ length: most }, (_, k) => [k + 1, String(k + 1)]);
    const kernels = element("span", { class: "explorer-kernels" });
    function set(changes) {
      Object.assign(chosen, changes);
      if ("k" in changes) {
        chosen.kernels = Array.from({ length: chosen.k }, (_, k) => chosen.kernels[k] || 3);
        chosen.step = chosen.k;
        offerKernels();
        const go = (step) => { play.stop(); set({ step }); };
        steps.replaceChildren(choices("After sub-operation", count(chosen.k), chosen.step, go));
      }
      draw();
    }
    function offerKernels() {
      kernels.replaceChildren(
        ...chosen.kernels.map((extent, k) =>
          list(`Kernel ${k + 1}`, data.extents.map((n) => [n, `${n} × ${n} × ${n}`]), extent, (n) =>
            set({ kernels: chosen.kernels.map((other, i) => (i === k ? n : other)) }),
          ),
        ),
      );
    }

    const play = player(() => set({ step: (chosen.step % chosen.k) + 1 }), 1400, data.compact, told);
    controls.append(choices("K", count(4), chosen.k, (k) => set({ k })));
    if (!data.compact) {
      const names = ["parallel", "serial", "coupling"].map((name) => [name, name]);
      controls.append(choices("Connection", names, chosen.connection, (connection) => set({ connection })), kernels);
    }
    controls.append(steps, play.button);
    const meanings = key([["now", "reached now"], ["before", "reached before"], ["output", "the output"]]);
    place.append(controls, element("div", { class: "fields-stage" }, grid, voxels), told, meanings);
    set({ k: 2 });
  });
});
