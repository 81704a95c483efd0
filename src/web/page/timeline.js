// A timeline as a picture: the last 24 hours as one bar, or days as one bar each, outages hatched.
//
//   Fri 28   ▕  ██ ▌      ███████▏ ▒▒ ██      ▏      one row a day: when in the day is seen at once
//   Sat 29   ▕    ██      ██████▌               ▏
//            0     6     12     18     24
//
// Sessions and outages are found by pointer, and by arrow keys in the order of time.

import { $, clock, count, day, dayAndClock, duration, minute, say, weekday } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';
const DAY = 86_400;
/** By days: height of a row, space below it. */
const SHAPES = { 1: [64, 0], 7: [24, 7], 30: [11, 4] };
const SCALE = 20;
const REACH = 5;
/** Least width of a bar; and after so much a run of them is looked at anew. */
const WIDTH = 1.5, PIECE = 12;
const LEVELS = ['', 'some', 'few'];
const ENDS = { live: 'still online', lapsed: 'lapsed', left: 'left' };

function make(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** The rows of a picture, `[from, to)` each: the latest 24 hours, or days from midnight to midnight. */
export function rows(days, now) {
  if (days === 1) return [{ from: now + 1 - DAY, to: now + 1 }];
  const midnight = back => {
    const date = new Date(now * 1_000);
    return new Date(date.getFullYear(), date.getMonth(), date.getDate() - back).getTime() / 1_000;
  };
  return Array.from({ length: days }, (_, i) => ({ from: midnight(days - 1 - i), to: midnight(days - 2 - i) }));
}

export class Timeline {
  items = [];
  chosen = -1;

  constructor() {
    this.box = $('timeline');
    this.box.addEventListener('keydown', event => this.press(event));
    this.box.addEventListener('focus', () => this.chosen < 0 && this.choose(this.items.length - 1));
    this.box.addEventListener('blur', () => this.choose(-1));
    this.box.addEventListener('pointermove', event => this.hover(event));
    this.box.addEventListener('pointerdown', event => this.hover(event));
    this.box.addEventListener('pointerleave', () => this.choose(document.activeElement === this.box ? this.chosen : -1));
    // Its height is what is drawn.
    new ResizeObserver(() => this.box.clientWidth !== this.width && this.draw()).observe(this.box);
  }

  set({ days, now, history, outages }) {
    const was = this.items[this.chosen];
    Object.assign(this, { days, now });
    const sessions = history.map(({ online_at, offline_at, end }) => ({ from: online_at, to: end === 'live' ? Math.max(now, online_at + 1) : offline_at, end }));
    const down = outages.map(({ from, to }) => ({ from, to, end: 'outage' }));
    this.rows = rows(days, now);
    const { from } = this.rows[0];
    this.items = [...sessions, ...down].filter(item => item.to > from).sort((a, b) => a.from - b.from);
    this.draw();
    this.choose(was ? this.items.findIndex(({ from, end }) => from === was.from && (end === 'outage') === (was.end === 'outage')) : -1);
  }

  draw() {
    const width = this.box.clientWidth;
    if (!this.rows || !width) return;
    const [height, space] = SHAPES[this.days];
    const isNarrow = width < 560;
    const gutter = this.days === 1 ? 0 : isNarrow ? 46 : 92;
    Object.assign(this, { width, height, space, gutter });
    const total = this.rows.length * (height + space) - space + SCALE;
    const svg = make('svg', { viewBox: `0 0 ${width} ${total}`, width, height: total, 'aria-hidden': 'true' });
    svg.append(hatch(), ...this.grid(isNarrow ? 6 : 3, total));
    this.rows.forEach((row, i) => svg.append(...this.row(row, i, isNarrow)));
    this.frame = make('rect', { class: 'frame', rx: 2, visibility: 'hidden' });
    svg.append(this.frame);
    this.box.replaceChildren(svg);
    this.outline();
  }

  /** In a row of a day by the clock: noon is below noon also where a day has 23 or 25 hours. */
  x(row, second) {
    if (second <= row.from || second >= row.to) return this.across(second < row.to ? 0 : 1);
    if (this.days === 1) return this.across((second - row.from) / DAY);
    const date = new Date(second * 1_000);
    return this.across((date.getHours() * 3_600 + date.getMinutes() * 60 + date.getSeconds()) / DAY);
  }

  across(share) {
    return this.gutter + share * (this.width - this.gutter);
  }

  /** Hours below, and a line at each. */
  grid(every, total) {
    const [row] = this.rows, parts = [];
    const first = Math.ceil(row.from / 3_600) * 3_600;
    for (let i = 0; i <= 24; i++) {
      const second = first + 3_600 * i;
      const hour = this.days === 1 ? new Date(second * 1_000).getHours() : i;
      if (hour % every || (this.days === 1 && second > row.to)) continue;
      const x = Math.round(this.days === 1 ? this.x(row, second) : this.across(i / 24)) + 0.5;
      parts.push(make('line', { class: 'hour', x1: x, x2: x, y1: 0, y2: total - SCALE + 3 }));
      const anchor = x - this.gutter < 14 ? 'start' : x > this.width - 16 ? 'end' : 'middle';
      const says = this.days === 1 ? minute(second) : `${String(hour).padStart(2, '0')}:00`;
      parts.push(make('text', { x: Math.min(x, this.width), y: total - 3, 'text-anchor': anchor }, says));
    }
    return parts;
  }

  row(row, i, isNarrow) {
    const y = i * (this.height + this.space);
    const end = this.x(row, Math.min(row.to, this.now));
    const parts = [make('rect', { class: 'track', x: this.gutter, y, width: Math.max(0, end - this.gutter), height: this.height })];
    if (this.gutter) {
      const name = weekday(row.from + DAY / 2);
      const says = isNarrow ? name.split(' ').slice(0, 2).join(' ') : name;
      parts.push(make('text', { x: 0, y: y + this.height / 2 + 4, class: i === this.rows.length - 1 ? 'today' : '' }, says));
    }
    const within = this.items.filter(item => item.from < row.to && item.to > row.from);
    const online = this.bars(row, y, within.filter(item => item.end !== 'outage'));
    const [down] = this.bars(row, y, within.filter(item => item.end === 'outage'));
    online.forEach((path, level) => path && parts.push(make('path', { class: `online ${LEVELS[level]}`, d: path })));
    if (down) parts.push(make('path', { class: 'outage', d: down, fill: 'url(#hatch)' }));
    return parts;
  }

  /** Where an item is in a row, `[left, right]`; wide enough to be seen. */
  place(row, { from, to }) {
    const left = Math.min(this.x(row, from), this.width - WIDTH);
    return [left, Math.max(this.x(row, to), left + WIDTH)];
  }

  /**
   * The bars of a row as paths, by level. Those that touch on the screen are one; where they do so only because each is wider than
   * it should be to be seen, they are the lighter the less of the time they stand for.
   */
  bars(row, y, items) {
    const paths = ['', '', ''];
    let left, right = -1, sum = 0;
    const close = () => {
      if (right < 0) return;
      const share = sum / (right - left), level = sum < WIDTH || share > 0.85 ? 0 : share > 0.5 ? 1 : 2;
      paths[level] += `M${left.toFixed(1)} ${y}h${(right - left).toFixed(1)}v${this.height}h${(left - right).toFixed(1)}z`;
    };
    for (const item of items) {
      const [from, to] = this.place(row, item), exact = this.x(row, item.to) - this.x(row, item.from);
      const touches = right >= 0 && from <= right + 0.4;
      if (touches && right - left < PIECE) {
        [right, sum] = [Math.max(right, to), sum + exact];
        continue;
      }
      close();
      [left, right, sum] = [touches ? right : from, touches ? Math.max(right + 0.1, to) : to, exact];
    }
    close();
    return paths;
  }

  hover({ offsetX, offsetY, clientX, clientY }) {
    const box = this.box.getBoundingClientRect();
    const [px, py] = [clientX - box.left, clientY - box.top];
    const i = Math.min(this.rows.length - 1, Math.floor(py / (this.height + this.space)));
    const row = this.rows[i];
    if (!row || px < this.gutter) return this.choose(-1);
    let best = -1, nearest = REACH;
    for (const [index, item] of this.items.entries()) {
      if (item.from >= row.to || item.to <= row.from) continue;
      const [from, to] = this.place(row, item);
      const away = px < from ? from - px : px > to ? px - to : 0;
      // Of a session and an outage at one place the later one in the list is on top.
      if (away <= nearest) [best, nearest] = [index, away];
    }
    this.choose(best, i);
  }

  press(event) {
    const last = this.items.length - 1;
    if (last < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.chosen < 0 ? last : this.chosen;
    const moves = {
      ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - 10, PageUp: at + 10, Home: 0, End: last,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.choose(Math.min(last, Math.max(0, moves[event.key])));
  }

  /** Shows the exact times of an item; -1 is none. The pointer may be in any row of a session that has several. */
  choose(index, rowIndex) {
    this.chosen = index;
    this.rowIndex = rowIndex;
    const item = this.items[index];
    this.outline();
    const sessions = this.items.filter(({ end }) => end !== 'outage').length;
    const says = item ? describe(item) : sessions ? `${count(sessions)} ${sessions === 1 ? 'session' : 'sessions'}. Point at one, or use the arrow keys` : 'No session in this range';
    say('timeline-readout', says);
    this.box.setAttribute('aria-valuemin', this.items.length ? 1 : 0);
    this.box.setAttribute('aria-valuemax', this.items.length);
    this.box.setAttribute('aria-valuenow', item ? index + 1 : this.items.length);
    this.box.setAttribute('aria-valuetext', item ? `${index + 1} of ${this.items.length}: ${describe(item)}` : says);
  }

  outline() {
    const item = this.items[this.chosen], tip = $('tip');
    tip.hidden = !item || !this.frame;
    if (!this.frame) return;
    this.frame.setAttribute('visibility', item ? 'visible' : 'hidden');
    if (!item) return;
    const holds = row => item.from < row.to && item.to > row.from;
    const i = this.rowIndex !== undefined && holds(this.rows[this.rowIndex]) ? this.rowIndex : this.rows.findIndex(holds);
    const row = this.rows[i];
    // A second that is ahead of this clock.
    if (!row) return this.frame.setAttribute('visibility', 'hidden');
    const [from, to] = this.place(row, item);
    const y = i * (this.height + this.space);
    const place = { x: from - 2, y: y - 1, width: to - from + 4, height: this.height + 2 };
    for (const [key, value] of Object.entries(place)) this.frame.setAttribute(key, value);
    tip.textContent = `${clock(item.from)} – ${item.end === 'live' ? 'now' : clock(item.to)}`;
    const middle = Math.min(this.width - tip.offsetWidth / 2, Math.max(tip.offsetWidth / 2, (from + to) / 2));
    tip.style.left = `${middle}px`;
    tip.style.top = `${y - 8}px`;
  }
}

function describe({ from, to, end }) {
  if (end === 'outage') return `Service down: ${dayAndClock(from)} – ${clock(to)}, ${duration(to - from)}`;
  const until = end === 'live' ? 'now' : day(from) === day(to) ? clock(to) : dayAndClock(to);
  return `${dayAndClock(from)} – ${until}, ${duration(to - from)}, ${ENDS[end]}`;
}

function hatch() {
  const lines = make('path', { d: 'M-1 7L7 -1M-1 1L1 -1M5 7L7 5', class: 'hatching' });
  const ground = make('rect', { width: 6, height: 6, class: 'hatched' });
  return make('defs', {}, make('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse' }, ground, lines));
}
