// Lets a reader search the ledger by words, kind and verdict. Without this script the table shows every claim.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.ledger")) {
    const rows = [...table.tBodies[0].rows].map((row) => ({
      row,
      text: row.textContent.toLowerCase(),
      kind: row.cells[1].textContent,
      verdict: row.cells[4].textContent.replace(" (stale)", ""),
    }));
    const bar = document.createElement("div");
    bar.className = "ledger-bar";
    const words = document.createElement("input");
    words.type = "search";
    words.placeholder = "words, such as: table 2g top-1";
    words.setAttribute("aria-label", "words to look for");
    const choose = (field, all) => {
      const select = document.createElement("select");
      select.setAttribute("aria-label", field);
      const values = [...new Set(rows.map((entry) => entry[field]))];
      select.append(...[all, ...values].map((value, index) => new Option(value, index ? value : "")));
      return select;
    };
    const kind = choose("kind", "all kinds");
    const verdict = choose("verdict", "all verdicts");
    const count = document.createElement("output");
    const apply = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const entry of rows) {
        const fits =
          wanted.every((word) => entry.text.includes(word)) &&
          (!kind.value || entry.kind === kind.value) &&
          (!verdict.value || entry.verdict === verdict.value);
        entry.row.hidden = !fits;
        shown += fits;
      }
      count.textContent = `${shown} of ${rows.length}`;
    };
    for (const control of [words, kind, verdict]) control.addEventListener("input", apply);
    bar.append(words, kind, verdict, count);
    table.before(bar);
    apply();
  }
});
