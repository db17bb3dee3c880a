// Small comforts of the console; every page works without them.
(() => {
  "use strict";
  const boxes = (form) => [...form.querySelectorAll("input[type=checkbox][name=uid]")];
  const count = (form) => {
    const n = boxes(form).filter((one) => one.checked).length;
    for (const out of form.querySelectorAll("[data-chosen]")) out.textContent = n;
  };
  document.addEventListener("change", (event) => {
    const box = event.target;
    const form = box.closest && box.closest("form[data-many]");
    if (!form) return;
    if (box.matches("[data-all]")) for (const one of boxes(form)) one.checked = box.checked;
    count(form);
  });
  // On a phone the menu is a strip: it begins at the page one is on.
  const here = document.querySelector(".side [aria-current]");
  if (here) here.closest(".side").scrollLeft = here.offsetLeft - 60;
  // A menu that was opened closes by Escape, and when one looks elsewhere.
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
      const seek = document.querySelector(".seek input");
      if (seek) { seek.focus(); event.preventDefault(); }
    }
    if (event.key !== "Escape") return;
    for (const one of document.querySelectorAll("details.you[open], details.act-on[open]")) {
      one.open = false;
      one.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    for (const one of document.querySelectorAll("details.you[open]"))
      if (!one.contains(event.target)) one.open = false;
  });
})();
