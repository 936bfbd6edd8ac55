// Lets a reader search and sort the ledger, and keeps what is chosen in the address: #table=2g&verdict=supported.
// An address with the name of an entry opens it. Without this script the table shows every claim.
document.addEventListener("DOMContentLoaded", () => {
  const { element, list } = Explorers;
  const COLUMNS = { verdict: 1, table: 2, kind: 3 };

  for (const table of document.querySelectorAll("table.ledger")) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({
      row,
      words: row.textContent.toLowerCase(),
      ...Object.fromEntries(
        Object.entries(COLUMNS).map(([name, at]) => [name, row.cells[at].textContent.replace(" (stale)", "")]),
      ),
    }));
    const chosen = { words: "", table: "", kind: "", verdict: "" };
    const words = element("input", {
      type: "search", placeholder: "words, such as: top-1", "aria-label": "words to look for",
      oninput: (event) => set({ words: event.target.value }),
    });
    const lists = {};
    for (const name of ["table", "kind", "verdict"]) {
      const values = [["", `every ${name}`], ...[...new Set(rows.map((each) => each[name]))].map((each) => [each, each])];
      lists[name] = list(name, values, "", (value) => set({ [name]: value }));
    }
    const count = element("output");

    function show() {
      const wanted = chosen.words.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const each of rows) {
        const fits =
          wanted.every((word) => each.words.includes(word)) &&
          Object.keys(lists).every((name) => !chosen[name] || chosen[name].split(",").includes(each[name]));
        each.row.hidden = !fits;
        shown += fits;
      }
      count.textContent = `${shown} of ${rows.length}`;
      words.value = chosen.words;
      for (const [name, made] of Object.entries(lists)) {
        const select = made.querySelector("select"), value = chosen[name];
        if (value.includes(",") && ![...select.options].some((each) => each.value === value)) // only a link asks for it
          made.add(value, value.replaceAll(",", " or "));
        select.value = value;
      }
    }
    function set(changes) {
      Object.assign(chosen, changes);
      const told = new URLSearchParams(Object.entries(chosen).filter(([, value]) => value));
      history.replaceState(null, "", `#${told}`);
      show();
    }

    // What the address asks for: entries that are chosen, or one entry.
    function follow() {
      let asked = location.hash.slice(1);
      try { asked = decodeURIComponent(asked); } catch { /* it is no code, but a text with % */ }
      const entry = asked && document.getElementById(asked);
      if (entry && body.contains(entry)) {
        Object.assign(chosen, { words: "", table: "", kind: "", verdict: "" });
        show();
        entry.querySelector("details").open = true;
        entry.scrollIntoView({ block: "center" });
      } else if (asked.includes("=")) {
        const told = new URLSearchParams(location.hash.slice(1));
        for (const name of Object.keys(chosen)) chosen[name] = told.get(name) || "";
        show();
        bar.scrollIntoView();
      }
    }

    // Sorting: columns of numbers by the first number of a cell, cells without one last; all others by the alphabet.
    const collator = new Intl.Collator("en", { numeric: true });
    const number = (cell) => parseFloat(cell.textContent.replace("−", "-").match(/[+-]?\d+(\.\d+)?(e[+-]?\d+)?/)?.[0]);
    const compare = (heading, way) => (one, other) => {
      if (!["Published", "Here"].includes(heading)) return way * collator.compare(one.textContent, other.textContent);
      const [a, b] = [number(one), number(other)];
      return isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : way * (a - b);
    };
    for (const [at, heading] of [...table.tHead.rows[0].cells].entries()) {
      const name = heading.textContent;
      const sort = () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const by = compare(name, down ? -1 : 1);
        body.append(...[...body.rows].sort((a, b) => by(a.cells[at], b.cells[at])));
      };
      heading.replaceChildren(element("button", { type: "button", onclick: sort }, name));
    }

    const bar = element("div", { class: "explorer-controls ledger-bar" }, words, ...Object.values(lists), count);
    table.parentElement.before(bar);
    show();
    window.addEventListener("hashchange", follow);
    follow();
  }

  // The map of verdicts: one stop for the keyboard; arrows to the sides go on by a cell, up and down by a table, Home
  // and End to the first and the last. What a cell is stands below.
  for (const map of document.querySelectorAll(".verdict-map")) {
    const cells = [...map.querySelectorAll("a.verdict")];
    const told = element("output", { class: "explorer-told" });
    map.append(told);
    const show = (event) => cells.includes(event.target) && (told.textContent = event.target.title);
    map.addEventListener("focusin", show);
    map.addEventListener("pointerover", show);
    cells.forEach((cell, number) => (cell.tabIndex = number ? -1 : 0));
    map.addEventListener("keydown", (event) => {
      const at = cells.indexOf(event.target);
      if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
      const starts = cells.flatMap((cell, n) => (cell.previousElementSibling ? [] : [n])); // of the tables
      const next = cells[{
        ArrowRight: at + 1,
        ArrowLeft: at - 1,
        ArrowDown: starts.find((start) => start > at),
        ArrowUp: starts.findLast((start) => start < at),
        Home: 0,
        End: cells.length - 1,
      }[event.key]];
      if (!next) return;
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      event.preventDefault();
    });
  }
});
