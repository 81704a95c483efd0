// A service of its own for a test: on a free port, in a folder that goes with it; and ways to heal, kill and start it again.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const PATIENCE = 20_000;

/** Asks until the answer is truthy, and gives it. */
export async function until(what, ask, patience = PATIENCE) {
  const end = Date.now() + patience;
  let answer;
  for (;;) {
    try {
      answer = await ask();
      if (answer) return answer;
    } catch (error) {
      answer = error;
    }
    if (Date.now() > end) throw new Error(`in vain: ${what}; last: ${answer}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

export class Service {
  static async start(flags = []) {
    const service = new Service();
    service.flags = flags;
    service.folder = await mkdtemp(join(tmpdir(), 'heartbeat-page-'));
    service.port = await freePort();
    service.url = `http://127.0.0.1:${service.port}`;
    await service.run();
    return service;
  }

  /** Starts it; also anew, on the same port and folder. */
  async run() {
    const flags = ['serve', '--listen', `127.0.0.1:${this.port}`, '--data-dir', this.folder, '--threads', '1', '--segment-bytes', '1MiB', '--allow-unsafe-filesystem', ...this.flags];
    this.process = spawn(process.env.HEARTBEAT, flags, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.said = '';
    this.process.stderr.on('data', text => (this.said += text));
    this.ended = once(this.process, 'exit');
    await until('the service is ready', async () => {
      if (this.process.exitCode !== null) throw new Error(this.said);
      return (await fetch(`${this.url}/readyz`)).ok;
    });
  }

  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    await this.ended;
  }

  async end() {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.stop('SIGKILL');
    await rm(this.folder, { recursive: true, force: true });
  }

  async call(method, path, body, type = 'text/plain') {
    const headers = body === undefined ? {} : { 'content-type': type };
    const reply = await fetch(this.url + path, { method, body, headers });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
    return text.startsWith('{') ? JSON.parse(text) : text;
  }

  heal(id) {
    return this.call('PUT', `/heal/${id}`);
  }

  async timeline(id) {
    return (await this.call('GET', `/heart_rhythm/${id}`)).history;
  }

  async isOnline(id) {
    return (await this.call('GET', `/checkup/${id}`)).status === 'online';
  }

  /** Brings sessions in: `[from, to]` each. */
  import(id, sessions) {
    const lines = sessions.map(([online_at, offline_at]) => JSON.stringify({ id, online_at, offline_at }));
    return this.call('POST', '/v1/import', lines.join('\n'), 'application/x-ndjson');
  }
}
