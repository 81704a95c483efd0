// Who was online at a moment: a count, and the users in pages.

import { get } from './service.js';
import { $, count, fromInput, moment, now, say, toInput } from './words.js';

const PAGE = 200;

/** `look(id)` is called for a user that was chosen, `close()` when the moment is put away. */
export class Moment {
  call = null;

  constructor({ look, close, choose }) {
    this.close = close;
    $('moment-form').addEventListener('submit', event => {
      event.preventDefault();
      const second = fromInput($('moment-time').value);
      if (Number.isNaN(second)) say('moment-says', 'Write a day and a time.');
      else choose(second);
    });
    $('moment-close').addEventListener('click', () => this.hide());
    $('moment').addEventListener('keydown', event => event.key === 'Escape' && this.hide());
    $('moment-more').addEventListener('click', () => this.more());
    $('moment-users').addEventListener('click', event => {
      const { user } = event.target.dataset;
      if (user !== undefined) look(user);
    });
  }

  hide() {
    this.call?.abort();
    $('moment').hidden = true;
    this.close();
    $('curve').focus();
  }

  async show(second) {
    this.second = second;
    $('moment').hidden = false;
    say('moment-title', `Online at ${moment(second, now())}`);
    $('moment-time').value = toInput(second);
    $('moment-time').max = toInput(now());
    say('moment-says', 'Asking …');
    await this.ask({}, page => {
      $('moment-users').replaceChildren();
      const users = page.online === 1 ? '1 user' : `${count(page.online)} users`;
      say('moment-says', page.outage ? 'The service was down in that second, so nobody could be counted for sure.' : page.online ? users : 'Nobody.');
      this.add(page);
    });
  }

  async more() {
    await this.ask({ after: this.next }, page => this.add(page));
  }

  async ask(parameters, take) {
    this.call?.abort();
    const call = (this.call = new AbortController());
    try {
      take(await get('v1/online/at', { t: this.second, limit: PAGE, ...parameters }, call.signal));
    } catch (error) {
      if (call.signal.aborted) return;
      $('moment-more').hidden = true;
      say('moment-says', error.status ? `The service says: ${error.message}.` : 'The service cannot be reached.');
      $('moment-users').replaceChildren();
    }
  }

  add({ users, next }) {
    const items = users.map(user => {
      const [item, button] = [document.createElement('li'), document.createElement('button')];
      button.type = 'button';
      button.dataset.user = button.textContent = user;
      item.append(button);
      return item;
    });
    $('moment-users').append(...items);
    this.next = next;
    $('moment-more').hidden = next === null;
  }
}
