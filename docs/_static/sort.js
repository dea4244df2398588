// Columns of a table.sortable are sorted by a click on their heading. Without scripts it is a plain table.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(h => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const empty = v => v === "";
        const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
        const rows = [...body.rows].sort((r, s) => {
          const a = key(r), b = key(s);
          return empty(a) - empty(b) || (down ? -1 : 1) * compare(a, b);  // what is empty stays below
        });
        body.append(...rows);
      });
    });
  }
});
