(function () {
  "use strict";
  var root = document.documentElement;
  var toggle = document.querySelector("button.theme");
  var dark = function () {
    var set = root.dataset.theme;
    return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  toggle.hidden = false;
  toggle.addEventListener("click", function () { root.dataset.theme = dark() ? "light" : "dark"; });

  var key = function (row, column) {
    var cell = row.cells[column], exact = cell.querySelector("data");
    var text = cell.dataset.sort !== undefined ? cell.dataset.sort : exact ? exact.value : cell.textContent.trim();
    var value = Number(text);
    return text !== "" && !isNaN(value) ? value : text;
  };
  var compare = function (a, b) {
    if (typeof a === typeof b) { return a < b ? -1 : a > b ? 1 : 0; }
    return typeof a === "number" ? -1 : 1;
  };
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
    var shown = Array.from(body.rows).filter(function (row) { return !row.classList.contains("more"); }).length;
    heads.forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) { button.appendChild(head.firstChild); }
      head.appendChild(button);
      button.addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        Array.from(body.rows)
          .sort(function (a, b) { return (down ? -1 : 1) * compare(key(a, column), key(b, column)); })
          .forEach(function (row, i) { row.classList.toggle("more", i >= shown); body.appendChild(row); });
      });
    });
  });
})();
