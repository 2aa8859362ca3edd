// Sorting, enlarging and copying. The page is complete without it.
"use strict";
(() => {
  const number = (cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : NaN);
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function order(rows, column, sign) {
    const cells = new Map(rows.map((row) => [row, row.cells[column]]));
    const numeric = rows.some((row) => Number.isFinite(number(cells.get(row))));
    return rows.sort((a, b) => {
      const [x, y] = [cells.get(a), cells.get(b)];
      if (!numeric) return sign * words.compare(x.textContent, y.textContent);
      const [p, q] = [number(x), number(y)];
      if (Number.isFinite(p) && Number.isFinite(q)) return sign * (p - q);
      return Number.isFinite(q) - Number.isFinite(p); // what is missing stays below, whichever the direction
    });
  }

  function sort(table, column) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const numeric = rows.some((row) => Number.isFinite(number(row.cells[column])));
    const now = heads[column].getAttribute("aria-sort");
    const down = now === "none" ? numeric : now === "ascending";
    heads.forEach((head) => head.setAttribute("aria-sort", "none"));
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...order(rows, column, down ? -1 : 1));
  }

  function button(text, label, action) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", action);
    return made;
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const text = head.textContent;
      head.setAttribute("aria-sort", "none");
      head.replaceChildren(button(text, "", () => sort(table, column)));
    });
  }

  const dialog = document.createElement("dialog");
  const stage = document.createElement("div");
  let home = null;
  stage.className = "stage";
  stage.tabIndex = 0;
  dialog.setAttribute("aria-label", "Figure, enlarged");
  dialog.append(button("Close", "", () => dialog.close()), stage);
  dialog.addEventListener("close", () => {
    home.append(stage.firstElementChild); // moved, not copied: ids stay unique
    home.focus();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);

  function enlarge(frame) {
    home = frame;
    stage.append(frame.firstElementChild);
    dialog.showModal();
    stage.focus();
  }

  for (const frame of document.querySelectorAll(".picture")) {
    frame.addEventListener("click", () => enlarge(frame));
    frame.addEventListener("keydown", (event) => event.key === "Enter" && enlarge(frame));
    frame.after(button("Enlarge", "Enlarge the figure", () => enlarge(frame)));
  }

  for (const code of document.querySelectorAll(".code")) {
    const text = code.querySelector("pre");
    code.prepend(
      button("Copy", `Copy: ${text.getAttribute("aria-label")}`, () => {
        getSelection().selectAllChildren(text); // where the clipboard is out of reach, Ctrl-C does it
        navigator.clipboard?.writeText(text.textContent).catch(() => {});
      }),
    );
  }
})();
