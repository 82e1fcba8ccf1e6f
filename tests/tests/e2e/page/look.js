// What a careful visitor would complain of: text that is hard to read against
// what is behind it, and anything that sticks out sideways.
(() => {
  const LEAST_CONTRAST = 4.5; // WCAG 2.2, 1.4.3, level AA
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

  const known = new Map();
  const color = (text) => {
    if (!known.has(text)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = text;
      pen.fillRect(0, 0, 1, 1);
      known.set(text, [...pen.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(text);
  };
  const isSolid = (rgba) => rgba[3] > 250;
  const luminance = ([r, g, b]) => {
    const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const contrast = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };

  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = color(getComputedStyle(e).backgroundColor);
      if (isSolid(found)) return found;
    }
    return [255, 255, 255, 255];
  };
  // In a drawing: the last rectangle that is painted under the text's middle.
  const behindDrawn = (text) => {
    const box = text.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const covers = (rect) => {
      const r = rect.getBoundingClientRect();
      return x >= r.left && x <= r.right && y >= r.top && y <= r.bottom && isSolid(color(getComputedStyle(rect).fill));
    };
    const rects = [...text.ownerSVGElement.querySelectorAll("rect")].filter(covers);
    return rects.length ? color(getComputedStyle(rects.at(-1)).fill) : behind(text.ownerSVGElement.parentElement);
  };

  const faint = new Set();
  const seen = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const isShown = element.checkVisibility() && element.getBoundingClientRect().width > 0;
    if (!texts.currentNode.data.trim() || seen.has(element) || !isShown) continue;
    if (element.closest("script, style, title, noscript, .hidden, .skip, :disabled")) continue;
    seen.add(element);
    const isDrawn = element instanceof SVGElement;
    const style = getComputedStyle(element);
    const ink = color(isDrawn ? style.fill : style.color);
    const ratio = contrast(ink, isDrawn ? behindDrawn(element) : behind(element));
    if (ratio < LEAST_CONTRAST) faint.add(`${texts.currentNode.data.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }

  const wide = [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    const isOut = box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
    return isOut && !element.closest(".scroll, .hidden, .skip");
  });
  return {
    texts: seen.size,
    faint: [...faint],
    wide: wide.map((element) => `${element.tagName} ${element.id}`),
    overflow: document.documentElement.scrollWidth - innerWidth,
  };
})()
