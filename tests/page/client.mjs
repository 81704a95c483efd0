// The client for browsers, `/heartbeat.js`, in the example page: served from another origin than the service.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';

import { withPage } from './browser.mjs';
import { Service, until } from './service.mjs';

const TTL = 3;

describe('the client, on a page of another origin', () => {
  let service, site, origin;

  before(async () => {
    const page = await readFile('examples/browser/index.html');
    site = createServer((request, reply) => {
      const isPage = request.url.startsWith('/?');
      reply.writeHead(isPage || request.url === '/elsewhere' ? 200 : 204, { 'content-type': 'text/html' });
      reply.end(isPage ? page : request.url === '/elsewhere' ? '<!doctype html><title>elsewhere</title>' : undefined);
    }).listen(0, '127.0.0.1');
    await once(site, 'listening');
    origin = `http://127.0.0.1:${site.address().port}`;
    service = await Service.start(['--ttl', `${TTL}s`, '--cors-origin', origin]);
  });

  after(async () => {
    await service?.end();
    site?.closeAllConnections();
    site?.close();
  });

  const open = (id, use) => {
    const url = `${origin}/?id=${id}&ttl=${TTL}&service=${encodeURIComponent(`${service.url}/`)}`;
    return withPage({ url, origins: [origin, service.url] }, use);
  };
  // A session of no length is in no timeline: whoever leaves is to have been here for a second.
  const settled = id => until('a session of some length', async () => {
    const [session] = await sessions(id);
    return session.offline_at - session.online_at > TTL;
  });
  const sessions = async id => (await service.call('GET', `/v1/users/${id}/history`)).history;

  test('it is shorter than 2 kB', async () => {
    const reply = await fetch(`${service.url}/heartbeat.js`);
    assert.equal(reply.headers.get('content-type'), 'text/javascript; charset=utf-8');
    assert.ok((await reply.arrayBuffer()).byteLength < 2_000);
  });

  test('it keeps its user online, in one session, for longer than a ttl', async () => {
    await open(1, async page => {
      await page.getByText('You are online.').waitFor();
      const [{ online_at }] = await sessions(1);
      await until('the session is longer than two ttl', async () => (await sessions(1))[0].offline_at - online_at > 2 * TTL + 1);
      assert.equal((await sessions(1)).length, 1);
      assert.ok(await service.isOnline(1));
    });
  });

  test('it heals by POST, about three times a ttl and never in step', async () => {
    await open(2, async page => {
      page.on('request', request => assert.equal(`${request.method()} ${request.url()}`, `POST ${service.url}/heal/2`));
      // By the page's own clock: how busy the machine is between the browser and here does not count.
      const begun = () => page.evaluate(() => performance.getEntriesByType('resource').filter(({ name }) => name.includes('/heal/')).map(({ startTime }) => startTime));
      const starts = await until('eight heals', async () => (await begun()).length >= 8 && begun());
      const pauses = starts.slice(1).map((start, i) => start - starts[i]);
      for (const pause of pauses) assert.ok(pause > 790 && pause < 1_000 * TTL, `${pauses}`);
      assert.ok(Math.max(...pauses) - Math.min(...pauses) > 5, `${pauses}`);
      // What the page sends when it goes is another test's.
      page.removeAllListeners('request');
    });
  });

  test('a single lost heal is made up for in time', async () => {
    await open(9, async (page, faults) => {
      faults.allow(/console: .*ERR_FAILED/);
      const starts = [];
      await page.route(/heal\/9$/, route => (starts.push(Date.now()) % 3 ? route.continue() : route.abort()));
      await page.reload();
      await until('eight heals', () => starts.length >= 8);
      // Backing off it would have been at least 1.6 s, after each of them; and the machine may be busy after some.
      const after = [3, 6].map(lost => starts[lost] - starts[lost - 1]);
      assert.ok(Math.min(...after) < 1_300, `${after}`);
      assert.equal((await sessions(9)).length, 1);
    });
  });

  test('looking back at the page again and again cuts off no heal', async () => {
    await open(10, async page => {
      await page.getByText('You are online.').waitFor();
      let heals = 0;
      await page.route(/heal\/10$/, async route => {
        heals++;
        await new Promise(resolve => setTimeout(resolve, 400));
        await route.continue();
      });
      const cut = [];
      page.on('requestfailed', request => cut.push(request.url()));
      await page.evaluate(() => {
        globalThis.told = [];
        new MutationObserver(() => told.push(document.body.innerText)).observe(document.body, { subtree: true, childList: true, characterData: true });
      });
      await until('three heals', async () => {
        await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
        return heals >= 3;
      });
      assert.deepEqual(cut, []);
      assert.deepEqual(await page.evaluate(() => told), []);
      page.removeAllListeners('requestfailed');
      await page.unrouteAll({ behavior: 'ignoreErrors' });
    });
  });

  test('its user has left as soon as the page goes, and not a ttl later', async () => {
    await open(3, async page => {
      await page.getByText('You are online.').waitFor();
      await settled(3);
      await page.goto(`${origin}/elsewhere`);
      await until('the user has left', async () => !(await service.isOnline(3)), 1_500);
      assert.equal((await sessions(3)).at(-1).end, 'left');
    });
  });

  test('its user has left when the tab is closed', async () => {
    await open(4, async page => {
      await page.getByText('You are online.').waitFor();
      await settled(4);
      await page.close({ runBeforeUnload: true });
      await until('the user has left', async () => (await sessions(4)).at(-1).end === 'left', 1_500);
    });
  });

  test('its user is back with the page, and leaves by a button', async () => {
    await open(5, async page => {
      await page.getByText('You are online.').waitFor();
      await settled(5);
      await page.goto(`${origin}/elsewhere`);
      await until('the user has left', async () => !(await service.isOnline(5)), 1_500);
      await page.goBack();
      await until('the user is back', () => service.isOnline(5));
      await page.getByRole('button', { name: 'Leave' }).click();
      await page.getByText('You have left.').waitFor();
      await until('the user has left', async () => (await sessions(5)).at(-1).end === 'left', 1_500);
    });
  });

  test('where there is no keepalive, it leaves by a beacon', async () => {
    await open(6, async page => {
      await page.addInitScript(() => delete Request.prototype.keepalive);
      await page.reload();
      await page.getByText('You are online.').waitFor();
      await settled(6);
      assert.equal(await page.evaluate(() => 'keepalive' in Request.prototype), false);
      await page.goto(`${origin}/elsewhere`);
      await until('the user has left', async () => (await sessions(6)).at(-1).end === 'left', 1_500);
    });
  });

  test('it backs off while the service is away, never longer than a ttl, and is back within one', async () => {
    await open(7, async (page, faults) => {
      faults.allow(/console: .*ERR_/, /console: .*CORS/);
      await page.getByText('You are online.').waitFor();
      const starts = [];
      page.on('request', () => starts.push(performance.now()));
      await service.stop('SIGKILL');
      await page.getByText('The service cannot be reached.').waitFor();
      await until('it has tried six times', () => starts.length >= 7, 40_000);
      const pauses = starts.slice(1).map((start, i) => start - starts[i]);
      assert.ok(Math.max(...pauses) < 1_000 * TTL + 600, `${pauses}`);
      assert.ok(pauses.at(-1) > 2_000, `it backs off: ${pauses}`);
      await service.run();
      await page.getByText('You are online.').waitFor({ timeout: 1_000 * TTL + 3_000 });
      page.removeAllListeners('request');
    });
  });
});
