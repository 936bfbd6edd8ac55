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
          Object.keys(lists).every((name) => !chosen[name] || each[name] === chosen[name]);
        each.row.hidden = !fits;
        shown += fits;
      }
      count.textContent = `${shown} of ${rows.length}`;
      words.value = chosen.words;
      for (const [name, made] of Object.entries(lists)) made.querySelector("select").value = chosen[name];
    }
    function set(changes) {
      Object.assign(chosen, changes);
      const told = new URLSearchParams(Object.entries(chosen).filter(([, value]) => value));
      history.replaceState(null, "", `#${told}`);
      show();
    }

    // What the address asks for: entries that are chosen, or one entry.
    function follow() {
      const asked = decodeURIComponent(location.hash.slice(1));
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

    // Sorting: numbers by their size, all else by the alphabet.
    const collator = new Intl.Collator("en", { numeric: true });
    for (const [at, heading] of [...table.tHead.rows[0].cells].entries()) {
      const sort = () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const ordered = [...body.rows].sort((a, b) => collator.compare(a.cells[at].textContent, b.cells[at].textContent));
        body.append(...(down ? ordered.reverse() : ordered));
      };
      heading.replaceChildren(element("button", { type: "button", onclick: sort }, heading.textContent));
    }

    const bar = element("div", { class: "explorer-controls ledger-bar" }, words, ...Object.values(lists), count);
    table.parentElement.before(bar);
    show();
    follow();
    window.addEventListener("hashchange", follow);
  }

  // The map of verdicts: one stop for the keyboard, arrows move within it; what a cell is stands below.
  for (const map of document.querySelectorAll(".verdict-map")) {
    const cells = [...map.querySelectorAll("a.verdict")];
    const told = element("output", { class: "explorer-told" });
    map.append(told);
    const show = (event) => cells.includes(event.target) && (told.textContent = event.target.title);
    map.addEventListener("focusin", show);
    map.addEventListener("pointerover", show);
    cells.forEach((cell, number) => (cell.tabIndex = number ? -1 : 0));
    map.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = cells[cells.indexOf(event.target) + step];
      if (!step || !next) return;
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      event.preventDefault();
    });
  }
});
