// Clips and the maps of several networks over them, in step. Colours are laid over grey frames as the package's
// `overlay` does it; a slider tells how strongly, and the outlines of the acting objects can be drawn.
document.addEventListener("DOMContentLoaded", () => {
  const { element, choices, list, slider, player } = Explorers;

  Explorers.start("saliency", (place, { clips, count, size, colors }) => {
    const anchors = colors.map((color) => [0, 2, 4].map((at) => parseInt(color.slice(at, at + 2), 16)));
    const state = { clip: 0, frame: 0, heat: 100, masks: true };
    const panels = clips[0].captions.concat("").map(() => ({
      canvas: element("canvas", { width: size, height: size, role: "img" }),
      caption: element("figcaption"),
    }));
    const told = element("p", { class: "explorer-told" });

    // The pixels of a strip of frames.
    const pixels = async (address) => {
      const image = new Image();
      image.src = address;
      await image.decode();
      const canvas = element("canvas", { width: image.width, height: image.height });
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, image.width, image.height).data;
    };
    const opened = new Map(); // clip -> its pixels, read once
    const open = (number) => {
      const { frames, masks, maps } = clips[number];
      if (!opened.has(number)) opened.set(number, Promise.all([frames, masks, ...maps].map(pixels)));
      return opened.get(number);
    };

    // The colour of a heat from 0 to 1, between two of the anchors.
    const color = (heat, channel) => {
      const at = heat * (anchors.length - 1);
      const below = Math.min(Math.floor(at), anchors.length - 2);
      return anchors[below][channel] + (at - below) * (anchors[below + 1][channel] - anchors[below][channel]);
    };

    async function draw() {
      const { clip, frame } = state;
      const [frames, masks, ...maps] = await open(clip);
      if (clip !== state.clip || frame !== state.frame) return; // another one was asked for meanwhile
      const at = (y, x) => 4 * (y * count * size + frame * size + x);
      const inside = (y, x) => y >= 0 && x >= 0 && y < size && x < size && masks[at(y, x)] > 127;
      panels.forEach(({ canvas, caption }, panel) => {
        const context = canvas.getContext("2d");
        const image = context.createImageData(size, size);
        for (let y = 0; y < size; y++)
          for (let x = 0; x < size; x++) {
            const [from, to] = [at(y, x), 4 * (y * size + x)];
            const rgb = frames.slice(from, from + 3);
            const grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
            const heat = panel ? maps[panel - 1][from] / 255 : 0;
            const strength = ((0.1 + 0.75 * heat) * state.heat) / 100;
            const edge = state.masks && inside(y, x) &&
              !(inside(y - 1, x) && inside(y + 1, x) && inside(y, x - 1) && inside(y, x + 1));
            for (let channel = 0; channel < 3; channel++)
              image.data[to + channel] = edge
                ? [0, 255, 255][channel]
                : panel ? grey + strength * (color(heat, channel) - grey) : rgb[channel];
            image.data[to + 3] = 255;
          }
        context.putImageData(image, 0, 0);
        caption.textContent = panel ? clips[clip].captions[panel - 1] : clips[clip].title;
        canvas.setAttribute("aria-label", `frame ${frame + 1} of ${count}: ${caption.textContent}`);
      });
      told.textContent = clips[clip].why;
      moment.querySelector("input").value = frame;
    }
    const set = (changes) => { Object.assign(state, changes); return draw(); };

    const play = player(() => set({ frame: (state.frame + 1) % count }), 350, false);
    const moment = slider("Frame", count - 1, 0, (frame) => { play.stop(); set({ frame }); });
    place.append(
      element("div", { class: "explorer-controls" },
        list("Clip", clips.map(({ title }, number) => [number, title]), 0, (clip) => set({ clip, frame: 0 })),
        play.button, moment,
        slider("Heat", 100, 100, (heat) => set({ heat })),
        choices("Acting objects", [[true, "outlined"], [false, "not"]], true, (masks) => set({ masks })),
      ),
      element("div", { class: "gallery saliency-stage" },
        ...panels.map(({ canvas, caption }) => element("figure", {}, canvas, caption))),
      told,
    );
    draw();
  });
});
