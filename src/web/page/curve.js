// The curve of who is online: an hour at most, drawn by uPlot, a moment chosen by a click or by keyboard.

import { $, clock, count, minute, rate, say, short } from './words.js';

const HOLD = 3_600;
/** A line would pretend to know what was between points further apart than this, in seconds. */
const GAP = 5;
const STEPS = Array.from({ length: 40 }, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3));
const TIMES = [15, 30, 60, 120, 300, 600, 900, 1_800];

const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** `choose(second)` is called for the moment that was chosen. */
export class Curve {
  points = [];
  span = HOLD;
  chosen = null;
  /** The second that the keyboard is at. */
  at = null;

  constructor(choose) {
    this.choose = choose;
    this.box = $('curve');
    this.plot = new window.uPlot(this.options(), [[], []], this.box);
    this.plot.over.addEventListener('click', () => this.pick(this.underCursor()?.at));
    this.box.addEventListener('keydown', event => this.press(event));
    this.box.addEventListener('blur', () => this.point(null));
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.box);
    const redraw = () => this.plot.redraw(false);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  }

  size() {
    return { width: Math.max(200, this.box.clientWidth), height: matchMedia('(max-width: 40rem)').matches ? 170 : 224 };
  }

  options() {
    const axis = {
      stroke: () => color('--quiet'),
      font: `11px ${color('--font')}`,
      ticks: { show: false },
      border: { show: false },
    };
    return {
      ...this.size(),
      legend: { show: false },
      padding: [8, 18, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8, width: 2, stroke: () => color('--paper'), fill: () => color('--accent') } },
      scales: { x: { time: false, auto: false }, y: { auto: true, range: (_, low, high) => heights(low, high) } },
      axes: [
        { ...axis, grid: { show: false }, gap: 6, size: 26, space: 64, incrs: TIMES, splits: undefined, values: (_, splits, __, ___, step) => splits.map(step < 60 ? clock : minute) },
        { ...axis, grid: { stroke: () => color('--line'), width: 1 }, gap: 8, size: (_, values) => 18 + 7 * Math.max(2, ...(values ?? []).map(text => text.length)), space: 36, incrs: STEPS, values: (_, splits) => splits.map(short) },
      ],
      series: [{}, { stroke: () => color('--accent'), width: 1.75, points: { show: false }, fill: plot => this.fill(plot), spanGaps: false }],
      hooks: { setCursor: [() => this.read()], draw: [plot => this.mark(plot)] },
    };
  }

  fill({ ctx, bbox }) {
    const fade = ctx.createLinearGradient(0, bbox.top, 0, bbox.top + bbox.height);
    fade.addColorStop(0, color('--accent-wash'));
    fade.addColorStop(1, color('--accent-none'));
    return fade;
  }

  /** A line through the chosen moment. */
  mark({ ctx, bbox, valToPos }) {
    if (this.chosen === null) return;
    const x = Math.round(this.plot.valToPos(this.chosen, 'x', true));
    if (x < bbox.left || x > bbox.left + bbox.width) return;
    ctx.save();
    ctx.fillStyle = color('--ink');
    ctx.fillRect(x - devicePixelRatio / 2, bbox.top, devicePixelRatio, bbox.height);
    ctx.restore();
  }

  /** Those of the service's last hour. What was seen before its last start stays. */
  set(points) {
    const first = points[0]?.at ?? Infinity;
    this.points = [...this.points.filter(point => point.at < first), ...points].slice(-HOLD);
    this.draw();
  }

  add(point) {
    const last = this.points.at(-1);
    if (last && point.at <= last.at) return;
    this.points.push(point);
    if (this.points.length > HOLD) this.points.shift();
    this.draw();
  }

  look(span) {
    this.span = span;
    this.draw();
  }

  shown() {
    const end = this.points.at(-1)?.at ?? 0;
    return this.points.slice(this.points.findIndex(point => point.at > end - this.span));
  }

  draw() {
    const shown = this.shown();
    const xs = [], ys = [];
    for (const { at, online } of shown) {
      if (xs.length && at - xs.at(-1) > GAP) {
        xs.push(xs.at(-1) + 1);
        ys.push(null);
      }
      xs.push(at);
      ys.push(online);
    }
    const end = xs.at(-1) ?? 0;
    // A service that has just begun fills the width all the same.
    const begin = Math.max(end - this.span, Math.min(xs[0] ?? 0, end - 60));
    this.plot.batch(() => {
      this.plot.setData([xs, ys], false);
      this.plot.setScale('x', { min: begin, max: end });
    });
    this.box.setAttribute('aria-valuemin', shown[0]?.at ?? 0);
    this.box.setAttribute('aria-valuemax', end);
    if (this.at === null) this.describe(shown.at(-1));
    this.read();
  }

  /** The point nearest to a second. */
  near(second) {
    let best;
    for (const point of this.shown()) if (!best || Math.abs(point.at - second) < Math.abs(best.at - second)) best = point;
    return best;
  }

  underCursor() {
    const { left } = this.plot.cursor;
    if (left === undefined || left === null || left < 0 || !this.points.length) return undefined;
    return this.near(this.plot.posToVal(left, 'x'));
  }

  read() {
    const point = this.at === null ? this.underCursor() : this.near(this.at);
    const { at, online, heals_per_second } = point ?? this.points.at(-1) ?? {};
    say('curve-readout', at === undefined ? 'No figures yet' : `${clock(at)} · ${count(online)} online · ${rate(heals_per_second)} heals/s`);
  }

  describe(point) {
    if (!point) return;
    this.box.setAttribute('aria-valuenow', point.at);
    this.box.setAttribute('aria-valuetext', `${clock(point.at)}, ${count(point.online)} online`);
  }

  /** Moves the keyboard's moment; null is none. */
  point(second) {
    this.at = second;
    const point = second === null ? undefined : this.near(second);
    if (point) {
      this.at = point.at;
      this.plot.setCursor({ left: this.plot.valToPos(point.at, 'x'), top: 1 });
      this.describe(point);
    } else {
      this.plot.setCursor({ left: -10, top: -10 });
    }
    this.read();
  }

  pick(second) {
    if (second === undefined) return;
    this.chosen = second;
    this.plot.redraw(false);
    this.choose(second);
  }

  forget() {
    this.chosen = null;
    this.plot.redraw(false);
  }

  press(event) {
    if (!this.points.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const first = this.shown()[0].at, last = this.points.at(-1).at;
    const from = this.at ?? last;
    const step = event.shiftKey ? 1 : this.span / 60;
    const moves = {
      ArrowLeft: from - step, ArrowDown: from - step, ArrowRight: from + step, ArrowUp: from + step,
      PageDown: from - this.span / 6, PageUp: from + this.span / 6, Home: first, End: last,
    };
    if (event.key in moves) this.point(Math.min(last, Math.max(first, Math.round(moves[event.key]))));
    else if (event.key === 'Enter' || event.key === ' ') this.pick(this.near(from).at);
    else if (event.key === 'Escape') this.point(null);
    else return;
    event.preventDefault();
  }
}

/** Room above and below. From zero, unless that would flatten the curve. */
function heights(low, high) {
  if (low === null || high === null || !Number.isFinite(low)) return [0, 10];
  const room = Math.max(2, 0.18 * (high - low), 0.01 * high);
  return [low - room < 0.6 * high ? 0 : Math.floor(low - room), Math.ceil(high + room)];
}

/** Draws `values` (null: unknown) into a small picture. */
export function spark(svg, values) {
  const known = values.filter(value => value !== null);
  const high = Math.max(...known, Number.MIN_VALUE), least = Math.min(...known, high);
  // Room below, so that a steady line is a line in the middle and not a block.
  const low = Math.max(0, least - (high - least) - 0.1 * high);
  const x = i => ((120 * i) / Math.max(1, values.length - 1)).toFixed(1);
  const y = value => (26 - (24 * (value - low)) / (high - low || 1)).toFixed(1);
  let line = '';
  for (const [i, value] of values.entries()) {
    if (value === null) continue;
    const isFirst = (values[i - 1] ?? null) === null, isAlone = isFirst && (values[i + 1] ?? null) === null;
    line += `${isFirst ? 'M' : 'L'}${x(i)} ${y(value)}${isAlone ? 'h0.6' : ''}`;
  }
  svg.firstElementChild.setAttribute('d', line);
}
