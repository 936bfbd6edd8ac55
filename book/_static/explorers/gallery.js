// Clips that move together, forwards or backwards. The plain picture is a strip of frames for each clip.
document.addEventListener("DOMContentLoaded", () => {
  const { element, choices, slider, player } = Explorers;

  Explorers.start("gallery", (place, { frames, size }, picture) => {
    const clips = [...picture.querySelectorAll(".strip")].map((strip) => {
      const image = strip.querySelector("img");
      const canvas = element("canvas", { width: size, height: size, role: "img", "aria-label": image.alt });
      return { image, canvas, label: strip.querySelector("span").textContent };
    });
    const state = { frame: 0, direction: 1 };

    function draw() {
      for (const { image, canvas } of clips)
        canvas.getContext("2d").drawImage(image, state.frame * size, 0, size, size, 0, 0, size, size);
      moment.querySelector("input").value = state.frame;
    }
    function go(frame) {
      state.frame = (frame + frames) % frames;
      draw();
    }

    const play = player(() => go(state.frame + state.direction), 125, true);
    const moment = slider("Frame", frames - 1, 0, (frame) => { play.stop(); go(frame); });
    const ways = choices("Play", [[1, "forwards"], [-1, "backwards"]], 1, (direction) => (state.direction = direction));
    place.append(
      element("div", { class: "explorer-controls" }, ways, play.button, moment),
      element("div", { class: "gallery" },
        ...clips.map(({ canvas, label }) => element("figure", {}, canvas, element("figcaption", {}, label)))),
    );
    Promise.all(clips.map(({ image }) => image.decode())).then(draw);
  });
});
