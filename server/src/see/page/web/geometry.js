// Where everything of the drawing stands: once for wide windows, once for
// narrow ones. The rail is a U: in along one side, out along the other, with
// the stations outside of it and the gauges between.

const WIDE = {
  name: "wide",
  view: [1280, 482],
  rail: "M44 106H1094a24 24 0 0 1 24 24V370a24 24 0 0 1 -24 24H44",
  wire: { box: [8, 40, 36, 422], text: [26, 251], turned: true },
  bands: [
    { layer: "driver", box: [54, 8, 336, 466], text: [66, 27] },
    { layer: "stack", box: [398, 8, 342, 466], text: [410, 27] },
    { layer: "runtime", box: [748, 8, 342, 466], text: [760, 27] },
    { layer: "server", box: [1098, 8, 174, 466], text: [1132, 27] },
  ],
  station: { size: [104, 58], name: 24, figure: 44 },
  stations: {
    1: { at: [92, 38], knob: [144, 106] },
    2: { at: [248, 38], knob: [300, 106] },
    3: { at: [406, 38], knob: [458, 106] },
    4: { at: [517, 38], knob: [569, 106] },
    5: { at: [628, 38], knob: [680, 106] },
    6: { at: [756, 38], knob: [808, 106] },
    7: { at: [867, 38], knob: [919, 106] },
    8: { at: [978, 38], knob: [1030, 106] },
    9: { at: [978, 404], knob: [1030, 394] },
    10: { at: [511, 404], size: [116, 58], knob: [569, 394] },
    11: { at: [278, 404], knob: [330, 394] },
    12: { at: [170, 404], knob: [222, 394] },
    13: { at: [62, 404], knob: [114, 394] },
    14: { at: [1132, 38], size: [132, 424], knob: [1118, 250] },
  },
  rings: { rx: [144, 172, 40], tx: [330, 308, 40] },
  pool: { box: [76, 286, 76, 84], text: [114, 278] },
  device: { text: [210, 150], line: 17, lines: 6, chars: 27 },
  flows: { title: [412, 138], box: [412, 150, 316, 172], cell: [21, 24], step: [26.4, 29.5], lines: [412, 346], chars: 50 },
  procs: { at: [760, 128], width: 318, row: 25, rows: 6, slots: 14, lot: [760, 304], perRow: 24, lotRows: 2, lines: [760, 354], chars: 50 },
  routes: { at: [1142, 118], line: 17, rows: 9, chars: 15 },
};

const NARROW = {
  name: "narrow",
  view: [360, 738],
  rail: "M124 28V642a16 16 0 0 0 16 16H220a16 16 0 0 0 16 -16V28",
  wire: { box: [6, 4, 348, 24], text: [180, 21], turned: false },
  bands: [
    { layer: "driver", box: [0, 36, 360, 206], text: [180, 53], middle: true },
    { layer: "stack", box: [0, 248, 360, 196], text: [180, 265], middle: true },
    { layer: "runtime", box: [0, 450, 360, 190], text: [180, 467], middle: true },
    { layer: "server", box: [0, 646, 360, 88], text: [180, 0], middle: true, unnamed: true },
  ],
  station: { size: [106, 50], name: 21, figure: 39 },
  stations: {
    1: { at: [6, 74], knob: [124, 99] },
    2: { at: [6, 154], knob: [124, 179] },
    3: { at: [6, 270], knob: [124, 295] },
    4: { at: [6, 328], knob: [124, 353] },
    5: { at: [6, 386], knob: [124, 411] },
    6: { at: [6, 472], knob: [124, 497] },
    7: { at: [6, 529], knob: [124, 554] },
    8: { at: [6, 586], knob: [124, 611] },
    9: { at: [248, 586], knob: [236, 611] },
    10: { at: [243, 328], size: [115, 50], knob: [236, 353] },
    11: { at: [248, 178], knob: [236, 203] },
    12: { at: [248, 120], knob: [236, 145] },
    13: { at: [248, 62], knob: [236, 87] },
    14: { at: [6, 672], size: [348, 54], knob: [180, 658] },
  },
  rings: { rx: [158, 84, 20], tx: [204, 84, 20] },
  pool: { box: [139, 127, 82, 9], text: [180, 152], flat: true },
  device: { text: [138, 174], line: 15, lines: 4, chars: 14 },
  flows: { title: [180, 281], middle: true, box: [137, 290, 88, 146], cell: [13, 17], step: [17.8, 21], lines: null },
  procs: { at: [136, 482], width: 90, row: 21, rows: 4, slots: 3, lot: [137, 590], perRow: 8, lotRows: 1, lines: [136, 580], chars: 16, short: true },
  routes: { at: [176, 694], line: 16, rows: 2, chars: 24, oneLine: true },
};

const LAYERS = { 1: "driver", 2: "driver", 3: "stack", 4: "stack", 5: "stack", 6: "runtime", 7: "runtime", 8: "runtime", 9: "runtime", 10: "stack", 11: "driver", 12: "driver", 13: "driver", 14: "server" };
const LAYER_NOTES = { driver: "frames", stack: "TCP/IP", runtime: "goroutines", server: "HTTP" };
