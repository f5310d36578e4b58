// What is pointed at in the answer is shown: a phrase of the caption, its box, or its row of the table, with its map.
// A click keeps it until the next.
let kept = null;

function phraseOf(event) {
  const part = event.target.closest("[data-phrase]");
  return part ? part.dataset.phrase : null;
}

function show(phrase) {
  for (const part of element.querySelectorAll("[data-phrase]")) {
    part.classList.toggle("shown", part.dataset.phrase === phrase);
    if (part.matches("button")) part.setAttribute("aria-pressed", String(part.dataset.phrase === kept));
  }
  element.querySelector(".answer")?.classList.toggle("choosing", phrase !== null);
}

element.addEventListener("mouseover", (event) => show(phraseOf(event) ?? kept));
element.addEventListener("mouseleave", () => show(kept));
element.addEventListener("click", (event) => {
  const phrase = phraseOf(event);
  if (phrase === null) return;
  kept = phrase === kept ? null : phrase;
  show(kept);
});
watch("value", () => {
  kept = null;
  if (element.getBoundingClientRect().top > window.innerHeight) element.scrollIntoView({ behavior: "smooth" }); // on phones
});
