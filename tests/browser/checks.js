"use strict";
/* What is wrong with a page; an empty list is well. Read by test_pages_in_browser.py. */
const seen = (element) => element.checkVisibility({ visibilityProperty: true });
const name = (element) => `${element.tagName}#${element.id} ${element.textContent.trim().slice(0, 40)}`;
window.figures = () =>
  [...document.images]
    .filter((image) => !image.complete || image.naturalWidth === 0 || image.alt.length < 40)
    .map((image) => image.alt);
/* Contrast of text with what is behind it, by WCAG 2: (lighter + 0.05) / (darker + 0.05). */
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const luminance = (colour) => {
  const parts = [...rgba(colour)].slice(0, 3).map((part) => part / 255);
  const [r, g, b] = parts.map((p) => (p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let of = element; of; of = of.parentElement) {
    const colour = getComputedStyle(of).backgroundColor;
    if (rgba(colour)[3] === 255) return colour;
  }
  return "#fff";
};
window.contrasts = () => {
  const poor = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !seen(element)) continue;
    const [a, b] = [getComputedStyle(element).color, ground(element)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(`${ratio.toFixed(2)}: ${name(element)}`);
  }
  return [...poor];
};
window.structure = () => {
  const wrong = [];
  const levels = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((h) => +h.tagName[1]);
  if (levels[0] !== 1 || levels.filter((level) => level === 1).length !== 1) wrong.push("not one h1");
  levels.forEach((level, index) => {
    if (index && level > levels[index - 1] + 1) wrong.push(`h${level} after h${levels[index - 1]}`);
  });
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size < ids.length) wrong.push("an id twice");
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"])
    for (const element of document.querySelectorAll(`[${attribute}]`))
      if (!document.getElementById(element.getAttribute(attribute))) wrong.push(name(element));
  for (const link of document.querySelectorAll("a"))
    if (!document.getElementById(link.getAttribute("href").slice(1))) wrong.push(link.href);
  for (const control of document.querySelectorAll("input, select"))
    if (!control.labels.length) wrong.push(name(control));
  for (const control of document.querySelectorAll("button, a, summary, legend, caption, figcaption"))
    if (!control.textContent.trim()) wrong.push(name(control));
  for (const region of document.querySelectorAll("[role=region], nav"))
    if (!region.ariaLabel && !region.getAttribute("aria-labelledby")) wrong.push(name(region));
  return wrong;
};
window.controls = () =>
  [...document.querySelectorAll("a, button, input, select, summary, [tabindex]")].filter(seen).length;
/* [damage, distance of the colour from an uncoloured cell] of each square that means damage. */
window.heat = (id) => {
  const bare = rgba(getComputedStyle(document.querySelector(`${id} tbody th`)).backgroundColor);
  return [...document.querySelectorAll(`${id} td.more`)].map((cell) => {
    const colour = rgba(getComputedStyle(cell).backgroundColor);
    return [+cell.style.getPropertyValue("--share"), Math.hypot(...[0, 1, 2].map((i) => colour[i] - bare[i]))];
  });
};
