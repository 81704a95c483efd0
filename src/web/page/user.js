// One user: status, totals, timeline. Followed as long as it is shown.

import { download } from './download.js';
import { follow, get, wholeHistory } from './service.js';
import { Timeline, rows } from './timeline.js';
import { $, ago, clock, count, dateAndClock, day, duration, moment, now, percent, say } from './words.js';

const ROWS = 200;
/** What a heal extends is told by no event: totals of somebody online are asked for so often, in seconds. */
const AGAIN = 15;
/** Somebody who reads as offline and of whom no end has been told may still go on, by a heal that no event tells of. */
const UNDECIDED = 1;
/** A look that failed is repeated after so long, in milliseconds: no event may come that would put it right. */
const REPEAT = 2_000;

/** The id as the service writes it, or null: `+7` and `007` are 7. */
export function parseId(text) {
  if (!/^[+-]?\d{1,40}$/.test(text)) return null;
  const id = BigInt(text.replace('+', ''));
  return id === BigInt.asIntN(64, id) ? String(id) : null;
}

/** `changed({ id, days })` is called when another user or range is looked at. */
export class User {
  id = null;
  days = 1;
  profile = null;
  /** What the events say so far; the end of a session only when it is settled. */
  told = null;

  constructor(changed) {
    this.changed = changed;
    this.timeline = new Timeline();
    $('lookup').addEventListener('submit', event => {
      event.preventDefault();
      this.ask($('id').value);
    });
    for (const button of document.querySelectorAll('[data-days]')) {
      button.addEventListener('click', () => this.range(Number(button.dataset.days)));
    }
    for (const form of ['csv', 'json']) $(`as-${form}`).addEventListener('click', () => this.save(form));
    setInterval(() => this.tick(), 1_000);
  }

  ask(text) {
    const id = parseId(text.trim());
    if (id === null) {
      $('id').setAttribute('aria-invalid', 'true');
      say('id-says', text.trim() ? 'A user id is a sign and digits that fit in 64 bits, such as 12345.' : 'Write a user id, such as 12345.');
      $('id').focus();
      return;
    }
    this.look(id);
  }

  look(id) {
    $('id').removeAttribute('aria-invalid');
    $('id').value = id;
    const isOther = id !== this.id;
    if (isOther) this.leave();
    this.id = id;
    this.changed(this);
    const again = () => this.refresh();
    if (!isOther) return again();
    say('id-says', 'Looking …');
    // The stream begins with a snapshot. Where there is none, each try to get it is a look.
    const told = status => {
      this.told = status;
      this.refresh();
    };
    this.end = follow('v1/watch', { ids: id }, {
      snapshot: ({ users }) => told(users[0].status),
      online: () => told('online'),
      offline: () => told('offline'),
    }, { whenLost: again });
  }

  leave() {
    this.end?.();
    this.call?.abort();
    clearTimeout(this.repeat);
    this.profile = null;
    this.told = null;
    $('found').hidden = true;
    say('download-says', '');
  }

  range(days) {
    this.days = days;
    for (const button of document.querySelectorAll('[data-days]')) {
      button.setAttribute('aria-pressed', String(Number(button.dataset.days) === days));
    }
    if (this.id === null) return;
    this.changed(this);
    this.refresh();
  }

  /** Asks for everything anew. */
  async refresh() {
    this.call?.abort();
    clearTimeout(this.repeat);
    const call = (this.call = new AbortController()), { signal } = call;
    const { id, days } = this;
    this.isAsking = true;
    const until = now(), { from } = rows(days, until)[0];
    try {
      const profile = await get(`v1/users/${id}`, {}, signal);
      // What opens in this very second belongs to it.
      const [{ history, outages }, stats] = await Promise.all([
        wholeHistory(id, { from, to: Math.max(until, profile.last_seen) + 1 }, signal),
        get(`v1/users/${id}/stats`, { from, to: until + 1 }, signal),
      ]);
      this.asked = until;
      Object.assign(this, { profile, history, outages, stats });
      this.show();
    } catch (error) {
      if (!signal.aborted) this.fail(error);
    } finally {
      if (call === this.call) this.isAsking = false;
    }
  }

  fail(error) {
    if (error.status !== 404) this.repeat = setTimeout(() => document.hidden || this.refresh(), REPEAT);
    if (error.status !== 404 && this.profile) return; // what is shown stays, and the page says that the service is away
    this.profile = null;
    $('found').hidden = true;
    if (error.status === 404) say('id-says', `User ${this.id} has never been seen. Should this user come, it shows here.`);
    else if (error.status) say('id-says', `The service says: ${error.message}.`);
    else say('id-says', 'The service cannot be reached.');
  }

  show() {
    const { profile, history, outages, days } = this;
    say('id-says', '');
    say('user-id', this.id);
    $('found').hidden = false;
    this.showStatus();
    say('sessions', count(profile.sessions));
    this.timeline.set({ days, now: now(), history, outages });
    this.showTotals();
    this.showRows();
  }

  showStatus() {
    const { profile } = this, second = now();
    const isOnline = profile.status === 'online';
    $('user-dot').dataset.is = profile.status;
    $('user-status').dataset.is = profile.status;
    const since = isOnline ? profile.online_at : profile.offline_at;
    say('user-status', since === null ? profile.status : `${profile.status} since ${moment(since, second)}`);
    say('last-seen', isOnline ? 'now' : `${moment(profile.last_seen, second)} (${ago(second - profile.last_seen)})`);
    const more = isOnline ? second - this.asked : 0;
    say('online-seconds', duration(profile.online_seconds + more));
  }

  showTotals() {
    const { stats } = this;
    say('t-sessions', count(stats.sessions));
    say('t-online', duration(stats.online_seconds));
    say('t-longest', duration(stats.longest_seconds));
    say('t-mean', stats.mean_seconds === null ? '–' : duration(stats.mean_seconds));
    say('t-ratio', stats.uptime_ratio === null ? '–' : percent(stats.uptime_ratio));
  }

  showRows() {
    const latest = this.history.slice(-ROWS).reverse();
    const cell = (text, className) => Object.assign(document.createElement('td'), { textContent: text, className });
    const lines = latest.map(({ online_at, offline_at, end }) => {
      const line = document.createElement('tr');
      const isLive = end === 'live';
      line.append(
        cell(dateAndClock(online_at), ''), cell(isLive ? 'now' : (day(online_at) === day(offline_at) ? clock : dateAndClock)(offline_at), ''),
        cell(duration((isLive ? Math.max(now(), online_at) : offline_at) - online_at), 'number'), cell(isLive ? 'online' : end, isLive ? 'live' : ''),
      );
      line.dataset.from = online_at;
      line.dataset.to = offline_at;
      return line;
    });
    if (!lines.length) {
      const line = document.createElement('tr');
      line.append(Object.assign(cell('No session in this range.', 'none'), { colSpan: 4 }));
      lines.push(line);
    }
    $('rows').replaceChildren(...lines);
    const shown = latest.length < this.history.length ? `The latest ${count(latest.length)} of ${count(this.history.length)} sessions of the range` : 'Sessions of the range, latest first';
    say('list-title', shown);
  }

  tick() {
    if (!this.profile || document.hidden) return;
    this.showStatus();
    // One that takes long is not begun anew before it has ended.
    if (this.isAsking) return;
    const isOnline = this.profile.status === 'online';
    if ((isOnline || this.told === 'online') && now() - this.asked >= (isOnline ? AGAIN : UNDECIDED)) this.refresh();
  }

  async save(form) {
    say('download-says', 'Fetching …');
    try {
      const sessions = await download(this.id, form);
      say('download-says', `${count(sessions)} sessions`);
    } catch (error) {
      say('download-says', error.status ? error.message : 'the service cannot be reached');
    }
  }
}
