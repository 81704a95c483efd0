// The live page, as somebody who looks at it sees it.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';

import { NARROW, audit, figure, picture, withPage } from './browser.mjs';
import { Service, until } from './service.mjs';

const TTL = 3;
const HOUR = 3_600;

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23', timeZone: 'Europe/Berlin' });
const at = second => clock.format(second * 1_000);

/** The timeline as the page tells it to whoever goes through it with the arrow keys: the earliest first. */
async function walk(page) {
  const timeline = page.locator('#timeline');
  await timeline.focus();
  await page.keyboard.press('Home');
  const count = Number(await timeline.getAttribute('aria-valuemax'));
  const told = [];
  for (let i = 0; i < count; i++) {
    told.push(await timeline.getAttribute('aria-valuetext'));
    await page.keyboard.press('ArrowRight');
  }
  return told;
}

/** What has the focus: its id, or else what it says. */
const focused = page => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());

async function lookUp(page, id) {
  await page.fill('#id', String(id));
  await page.keyboard.press('Enter');
}

describe('the live page', () => {
  let service, url;

  before(async () => {
    service = await Service.start(['--ttl', `${TTL}s`]);
    url = `${service.url}/`;
  });

  after(() => service?.end());

  test('everything it is made of is the service’s own, and a browser asks only whether it is still right', async () => {
    const html = await service.call('GET', '/');
    const files = [...html.matchAll(/(?:src|href)="(page\/[^"]+)"/g)].map(match => `/${match[1]}`);
    const scripts = ['service', 'words', 'curve', 'moment', 'user', 'timeline', 'download'].map(name => `/page/${name}.js`);
    for (const path of ['/', '/heartbeat.js', '/page/uPlot.LICENSE.txt', ...files, ...scripts]) {
      const reply = await fetch(service.url + path);
      assert.equal(reply.status, 200, path);
      assert.match(reply.headers.get('content-security-policy'), /^default-src 'self';/);
      assert.equal(reply.headers.get('cache-control'), 'no-cache');
      const etag = reply.headers.get('etag');
      const again = await fetch(service.url + path, { headers: { 'if-none-match': etag } });
      assert.deepEqual([again.status, again.headers.get('etag'), await again.text()], [304, etag, '']);
      const head = await fetch(service.url + path, { method: 'HEAD' });
      assert.deepEqual([head.status, head.headers.get('etag'), await head.text()], [200, etag, '']);
    }
  });

  test('figures move when heartbeats arrive, and when they no longer do', async () => {
    await withPage({ url }, async page => {
      await page.getByText('Live', { exact: true }).waitFor();
      const before = await figure(page, 'online');
      const ids = Array.from({ length: 40 }, (_, i) => 1_000 + i);
      await service.call('POST', '/v1/heal', ids.join('\n'));
      await until('forty more are shown', async () => (await figure(page, 'online')) === before + 40);
      await until('heals are shown', async () => (await figure(page, 'heals')) > 0 || (await page.getAttribute('#heals-spark .line', 'd')).length > 0);
      await until('they lapse', async () => (await figure(page, 'online')) === before);
      assert.equal(await page.textContent('#ready'), 'Ready');
      assert.equal(await page.textContent('#journal'), 'Accepting');
      assert.match(await page.title(), /^\d+ online · Heartbeat$/);
    });
  });

  test('a fresh tab finds the curve drawn', async () => {
    const { points } = await until('there are some points', async () => {
      const figures = await service.call('GET', '/v1/figures');
      return figures.points.length >= 3 && figures;
    });
    await withPage({ url }, async page => {
      const curve = page.locator('#curve');
      await until('the curve begins where the service began', async () => Number(await curve.getAttribute('aria-valuemin')) <= points[1].at);
    });
  });

  test('the timeline shows what was healed, to the second', async () => {
    await service.heal(11);
    await until('a ttl and more', async () => !(await service.isOnline(11)));
    await until('it has lapsed', async () => (await service.call('GET', '/v1/users/11/history')).history[0].end === 'lapsed');
    await service.heal(11);
    const [{ online_at }] = (await service.timeline(11)).slice(-1);
    await until('a second later', async () => Math.floor(Date.now() / 1_000) > online_at);
    await service.call('DELETE', '/heal/11');
    const [first, second] = await service.timeline(11);

    await withPage({ url }, async page => {
      await lookUp(page, 11);
      await page.getByText(`offline since ${at(second.offline_at)}`).waitFor();
      const told = await walk(page);
      assert.equal(told.length, 2);
      assert.ok(told[0].startsWith('1 of 2: ') && told[0].endsWith(`${at(first.online_at)} – ${at(first.offline_at)}, ${first.offline_at - first.online_at} s, lapsed`), told[0]);
      assert.ok(told[1].endsWith(`${at(second.online_at)} – ${at(second.offline_at)}, ${second.offline_at - second.online_at} s, left`), told[1]);
      const rows = await page.locator('#rows tr').evaluateAll(rows => rows.map(row => [Number(row.dataset.from), Number(row.dataset.to), row.cells[3].textContent]));
      assert.deepEqual(rows, [[second.online_at, second.offline_at, 'left'], [first.online_at, first.offline_at, 'lapsed']]);
      assert.equal(await page.textContent('#t-sessions'), '2');
    });
  });

  test('a bar is where its session was', async () => {
    const now = Math.floor(Date.now() / 1_000);
    await service.import(12, [[now - 18 * HOUR, now - 12 * HOUR]]);
    await withPage({ url }, async page => {
      await lookUp(page, 12);
      const bar = await until('the bar is drawn', () => page.locator('#timeline path.online').boundingBox());
      const box = await page.locator('#timeline').boundingBox();
      assert.ok(Math.abs((bar.x - box.x) / box.width - 0.25) < 0.002, 'it begins after a quarter');
      assert.ok(Math.abs(bar.width / box.width - 0.25) < 0.002, 'it is a quarter long');
      await page.mouse.move(bar.x + bar.width / 2, bar.y + bar.height / 2);
      assert.equal(await page.textContent('#tip'), `${at(now - 18 * HOUR)} – ${at(now - 12 * HOUR)}`);
      assert.match(await page.textContent('#timeline-readout'), /6 h, lapsed$/);
    });
  });

  test('noon is below noon, also on a day of 25 hours', async () => {
    // 2020-10-25, as Berlin goes back to winter: noon of that day and of those beside it.
    const noons = [24, 25, 26].map(date => Date.UTC(2020, 9, date, date === 24 ? 10 : 11) / 1_000);
    await service.import(20, noons.map(noon => [noon, noon + HOUR]));
    await withPage({ url }, async page => {
      await page.clock.setFixedTime(new Date((noons[2] + 6 * HOUR) * 1_000));
      const lefts = await page.evaluate(async noons => {
        const { rows, Timeline } = await import('/page/timeline.js');
        document.getElementById('found').hidden = false;
        const [timeline, now] = [new Timeline(), noons[2] + 6 * 3_600];
        const history = noons.map(noon => ({ online_at: noon, offline_at: noon + 3_600, end: 'lapsed' }));
        timeline.set({ days: 7, now, history, outages: [] });
        return rows(7, now).slice(-3).map((row, i) => timeline.x(row, noons[i]));
      }, noons);
      assert.equal(new Set(lefts).size, 1, `${lefts}`);
      const line = await page.locator('#timeline text', { hasText: '12:00' }).getAttribute('x');
      assert.ok(Math.abs(Number(line) - lefts[0]) <= 1, `${line} ${lefts}`);
    });
  });

  test('a second of another year is told with its year', async () => {
    const second = Date.UTC(2020, 10, 28, 10) / 1_000;
    await service.import(22, [[second, second + HOUR]]);
    await withPage({ url }, async page => {
      await lookUp(page, 22);
      await page.getByText('offline since Sat 28 Nov 2020, 12:00:00', { exact: true }).waitFor();
    });
  });

  test('the longest id fits on a phone', async () => {
    await service.heal('-9223372036854775808');
    await withPage({ url: `${url}#user=-9223372036854775808`, viewport: { width: 320, height: 640 } }, async page => {
      await page.locator('#user-status[data-is="online"]').waitFor();
      const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(inner <= outer, `${inner} px of content in ${outer}`);
    });
  });

  test('days are rows, and the range is in the address', async () => {
    const now = Math.floor(Date.now() / 1_000);
    await service.import(13, [2, 5, 20].map(days => [now - days * 24 * HOUR, now - days * 24 * HOUR + HOUR]));
    await withPage({ url }, async page => {
      await lookUp(page, 13);
      await page.getByText('No session in this range', { exact: true }).waitFor();
      await page.getByRole('button', { name: '7 days' }).click();
      await until('two sessions in a week', async () => (await page.textContent('#t-sessions')) === '2');
      assert.equal(await page.locator('#timeline rect.track').count(), 7);
      await page.getByRole('button', { name: '30 days' }).click();
      await until('three in a month', async () => (await page.textContent('#t-sessions')) === '3');
      assert.equal(await page.locator('#timeline rect.track').count(), 30);
      assert.equal(new URL(page.url()).hash, '#user=13&days=30');
      await page.reload();
      await until('it is there again', async () => (await page.locator('#timeline rect.track').count()) === 30);
      assert.equal(await page.inputValue('#id'), '13');
    });
  });

  test('a user appears and lapses before one’s eyes', async () => {
    await withPage({ url }, async (page, faults) => {
      faults.allow(/404.*users\/14/);
      await lookUp(page, 14);
      await page.getByText('User 14 has never been seen').waitFor();
      await service.heal(14);
      const [{ online_at, offline_at }] = await service.timeline(14);
      await page.getByText(`online since ${at(online_at)}`).waitFor();
      assert.equal(await page.locator('#timeline path.online').count(), 1);
      await page.getByText(`offline since ${at(offline_at)}`).waitFor();
    });
  });

  test('a user who goes on within the grace is online again, though no event tells of it', async () => {
    const patient = await Service.start(['--ttl', '2s', '--grace', '20s']);
    try {
      await patient.heal(19);
      await withPage({ url: `${patient.url}/#user=19` }, async page => {
        await until('the deadline has passed', async () => !(await patient.isOnline(19)));
        await page.reload();
        await page.locator('#user-status[data-is="offline"]').waitFor();
        await until('the user is online again', async () => {
          await patient.heal(19);
          return await page.locator('#user-status[data-is="online"]').isVisible();
        });
        assert.equal((await patient.timeline(19)).length, 1);
      });
    } finally {
      await patient.end();
    }
  });

  test('ids that no JavaScript number holds are shown as they are', async () => {
    const ids = ['9223372036854775807', '-9223372036854775808', '9007199254740993'];
    for (const id of [...ids, '7']) await service.heal(id);
    await withPage({ url }, async page => {
      for (const id of ids) {
        await lookUp(page, id);
        await until(`${id} is shown`, async () => (await page.textContent('#user-id')) === id);
      }
      await lookUp(page, ' +007 ');
      await until('it is 7', async () => (await page.inputValue('#id')) === '7');
      for (const wrong of ['', 'abc', '1.5', '9223372036854775808']) {
        await lookUp(page, wrong);
        assert.equal(await page.getAttribute('#id', 'aria-invalid'), 'true', wrong);
      }
    });
  });

  test('a timeline of many pages is downloaded whole', async () => {
    const start = Math.floor(Date.now() / 1_000) - 20 * 24 * HOUR;
    const sessions = Array.from({ length: 12_000 }, (_, i) => [start + 60 * i, start + 60 * i + 30]);
    await service.import(15, sessions);
    await withPage({ url }, async page => {
      const pages = [];
      page.on('request', request => request.url().includes('/15/history') && pages.push(request.url()));
      await lookUp(page, 15);
      await page.getByText('offline since').waitFor();
      const save = async name => {
        const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name }).click()]);
        return [download.suggestedFilename(), await readFile(await download.path(), 'utf8')];
      };
      const [csvName, csv] = await save('CSV');
      const lines = csv.trimEnd().split('\r\n');
      assert.equal(csvName, 'heartbeat-15.csv');
      assert.equal(lines[0], 'id,online_at,offline_at,seconds,end,online_at_utc,offline_at_utc');
      assert.deepEqual(lines.slice(1).map(line => line.split(',').slice(1, 3).map(Number)), sessions);
      const [jsonName, json] = await save('JSON');
      assert.equal(jsonName, 'heartbeat-15.json');
      const whole = JSON.parse(json);
      assert.equal(whole.id, '15');
      assert.deepEqual(whole.history.map(({ online_at, offline_at }) => [online_at, offline_at]), sessions);
      assert.ok(pages.some(page => page.includes('after=')), 'it took more than one page');
      await page.getByRole('button', { name: '30 days' }).click();
      await until('all are in the picture', async () => (await page.getAttribute('#timeline', 'aria-valuemax')) === '12000');
      await picture(page, 'many-sessions', { fullPage: true });
    });
  });

  test('a click into the curve says who was online', async () => {
    await withPage({ url }, async page => {
      await page.getByText('Live', { exact: true }).waitFor();
      const { at: second } = await service.call('GET', '/v1/online');
      await service.call('POST', '/v1/heal', '21\n22\n9223372036854775807');
      await until('the curve has come past', async () => Number(await page.getAttribute('#curve', 'aria-valuemax')) >= second + 2);
      await page.locator('#curve').focus();
      await page.keyboard.press('End');
      await page.keyboard.press('Shift+ArrowLeft');
      await page.keyboard.press('Enter');
      await page.locator('#moment-users button', { hasText: /^9223372036854775807$/ }).waitFor();
      await until('the count is that of the list', async () => parseInt(await page.textContent('#moment-says')) === (await page.locator('#moment-users li').count()));
      await page.locator('#moment-users button', { hasText: /^21$/ }).click();
      await until('the user is looked up', async () => (await page.textContent('#user-id')) === '21');
      const over = await page.locator('.u-over').boundingBox();
      await page.mouse.click(over.x + over.width - 2, over.y + 20);
      await page.getByText(/^Online at /).waitFor();
    });
  });

  test('it works with the keyboard alone', async () => {
    await withPage({ url }, async page => {
      await page.getByText('Live', { exact: true }).waitFor();
      await service.heal(16);
      await page.keyboard.press('Tab');
      assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
      await page.keyboard.press('Enter');
      await until('the look-up has the focus', async () => (await focused(page)) === 'id');
      await page.keyboard.type('16');
      await page.keyboard.press('Enter');
      await page.locator('#found').waitFor();
      for (const stop of ['Look up', '24 hours', '7 days', '30 days', 'timeline']) {
        await page.keyboard.press('Tab');
        assert.equal(await focused(page), stop);
      }
      assert.match(await page.getAttribute('#timeline', 'aria-valuetext'), /1 of 1: /);
      for (const stop of ['as-csv', 'as-json']) {
        await page.keyboard.press('Tab');
        assert.equal(await focused(page), stop);
      }
      // Backwards from the end: the curve, and a moment chosen in it.
      for (let i = 0; i < 20 && (await focused(page)) !== 'curve'; i++) await page.keyboard.press('Shift+Tab');
      assert.equal(await focused(page), 'curve');
      await page.keyboard.press('End');
      await page.keyboard.press('Enter');
      await page.getByText(/^Online at /).waitFor();
    });
  });

  for (const colorScheme of ['light', 'dark']) {
    for (const [width, viewport] of [['wide', undefined], ['narrow', NARROW]]) {
      test(`axe finds nothing, and nothing sticks out: ${width}, ${colorScheme}`, async () => {
        const now = Math.floor(Date.now() / 1_000);
        await service.import(17, Array.from({ length: 20 }, (_, i) => [now - (40 - i) * HOUR, now - (40 - i) * HOUR + 600 + 90 * i]));
        await service.heal(17);
        await withPage({ url: `${url}#user=17&days=7`, viewport, colorScheme }, async page => {
          await page.getByText('Live', { exact: true }).waitFor();
          await page.locator('#timeline path.online').first().waitFor();
          await page.locator('#curve').focus();
          await audit(page);
          const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
          assert.ok(inner <= outer, `${inner} px of content in ${outer}`);
          await picture(page, `tested-${width}-${colorScheme}`, { fullPage: true });
        });
      });
    }
  }

  test('a hidden tab has no stream, and one that is looked at again goes on', async () => {
    await withPage({ url: `${url}#user=16` }, async page => {
      const streams = new Set();
      page.on('request', request => request.url().includes('/watch') && streams.add(request));
      for (const end of ['requestfailed', 'requestfinished']) page.on(end, request => streams.delete(request));
      await page.reload();
      await page.getByText('Live', { exact: true }).waitFor();
      const hide = hidden => page.evaluate(hidden => {
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
      await until('it has both streams', () => streams.size === 2);
      await hide(true);
      await until('it has none', () => streams.size === 0);
      const was = Number(await page.getAttribute('#curve', 'aria-valuemax'));
      await until('time goes on', async () => (await service.call('GET', '/v1/online')).at >= was + 2);
      await hide(false);
      await until('it has both again', () => streams.size === 2);
      await until('the curve goes on', async () => Number(await page.getAttribute('#curve', 'aria-valuemax')) >= was + 2);
    });
  });

  test('it says that the service is away, and goes on by itself when it is back', async () => {
    await service.heal(18);
    await withPage({ url: `${url}#user=18` }, async (page, faults) => {
      faults.allow(/console: .*ERR_/, /console: .*50[03]/);
      await page.getByText('Live', { exact: true }).waitFor();
      await page.locator('#found').waitFor();
      await service.stop('SIGKILL');
      await page.getByText(/Cannot reach the service/).waitFor();
      assert.equal(await page.title(), 'Away · Heartbeat');
      assert.deepEqual([await page.textContent('#journal'), await page.textContent('#ready')], ['Unknown', 'Unknown']);
      await audit(page);
      await picture(page, 'tested-away', { fullPage: true });
      await until('two seconds of outage', async () => !(await fetch(url).catch(() => null)) && Date.now() > (until.t ??= Date.now() + 2_000));
      await service.run();
      await page.getByText('Live', { exact: true }).waitFor();
      await service.call('POST', '/v1/heal', '31\n32\n33');
      await until('figures move again', async () => (await figure(page, 'online')) >= 3);
      assert.equal(await page.textContent('#journal'), 'Accepting');
      assert.match(await page.title(), /^\d+ online · Heartbeat$/);
      // This heal continues the session that our absence cut short, so no event tells of it.
      await until('the user is online again', async () => {
        await service.heal(18);
        return await page.locator('#user-status[data-is="online"]').isVisible();
      });
      await page.locator('#timeline path.outage').waitFor();
      const told = await walk(page);
      assert.ok(told.some(text => /Service down: /.test(text)), `${told}`);
    });
  });

  test('it says so when the service drains, and while it recovers', async () => {
    await withPage({ url }, async (page, faults) => {
      faults.allow(/console: .*ERR_/, /console: .*50[03]/);
      await page.getByText('Live', { exact: true }).waitFor();
      await service.stop('SIGTERM');
      await page.getByText(/Cannot reach the service|Draining/).waitFor();
      await service.run();
      await page.getByText('Live', { exact: true }).waitFor();
    });
  });
});
