// What the explorers share. An explorer is a place on a page that holds data and a plain picture; its script builds
// something to play with from the data, and takes the picture away. Plain scripts: pages are also read from disk.
const Explorers = {
  // An element with its attributes and what is in it. A function under "on..." listens to an event.
  element(tag, attributes = {}, ...content) {
    const svg = ["svg", "path", "g", "rect", "line", "circle", "title"].includes(tag);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...content);
    return made;
  },

  // Builds every explorer of a kind on the page: build(place, data, picture), the plain picture being taken away. It
  // comes back where that fails.
  start(kind, build) {
    for (const place of document.querySelectorAll(`[data-explorer="${kind}"]`)) {
      const data = JSON.parse(place.querySelector("script").textContent);
      const picture = place.querySelector(".explorer-picture");
      picture.remove();
      try {
        build(place, data, picture);
      } catch (error) {
        place.replaceChildren(picture);
        reportError(error);
      }
    }
  },

  // A row of choices, one of which is taken; values are pairs of a value and its text. Calls changed(value);
  // take(value) of what it returns takes another one silently.
  choices(label, values, chosen, changed) {
    const name = `choice-${Explorers.count++}`;
    const options = values.map(([value, text]) => {
      const input = { type: "radio", name, value, checked: value === chosen, onchange: () => changed(value) };
      return Explorers.element("label", {}, Explorers.element("input", input), Explorers.element("span", {}, text));
    });
    const made = Explorers.element("fieldset", {}, Explorers.element("legend", {}, label), ...options);
    made.take = (value) => (made.querySelectorAll("input")[values.findIndex((each) => each[0] === value)].checked = true);
    return made;
  },

  // A list of choices that folds out; add(value, text) of what it returns adds one.
  list(label, values, chosen, changed) {
    const options = values.map(([value, text]) =>
      Explorers.element("option", { value, selected: value === chosen }, text),
    );
    const pick = (event) => changed(values[event.target.selectedIndex][0]);
    const select = Explorers.element("select", { onchange: pick, "aria-label": label }, ...options);
    const made = Explorers.element("label", {}, label, select);
    made.add = (value, text) => {
      values.push([value, text]);
      select.append(new Option(text, value));
    };
    return made;
  },

  // What colours mean: pairs of a class and a text.
  key(entries) {
    const shown = entries.map(([kind, text]) =>
      Explorers.element("span", {}, Explorers.element("i", { class: kind }), text),
    );
    return Explorers.element("p", { class: "explorer-key" }, ...shown);
  },

  slider(label, most, value, changed) {
    const input = { type: "range", min: 0, max: most, value, oninput: (event) => changed(Number(event.target.value)) };
    return Explorers.element("label", {}, label, Explorers.element("input", input));
  },

  // A button that starts and stops; step() is called every so many milliseconds meanwhile. What is told by the way is
  // not spoken by screen readers as long as it plays.
  player(step, milliseconds, playing, told) {
    let timer = null;
    const button = Explorers.element("button", { type: "button", onclick: () => set(timer === null) });
    const set = (on) => {
      clearInterval(timer);
      timer = on ? setInterval(step, milliseconds) : null;
      button.textContent = on ? "Pause" : "Play";
      told?.setAttribute("aria-live", on ? "off" : "polite");
    };
    set(playing && !matchMedia("(prefers-reduced-motion: reduce)").matches);
    return { button, stop: () => set(false) };
  },

  count: 0,
};
