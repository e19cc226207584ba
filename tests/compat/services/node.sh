# node: an http server and its clients, worker threads with shared memory, children and streams, watching of files, timers, crypto, its thread pool.
set -e
cd /tmp; cat > all.mjs <<'END'
import http from 'node:http'; import net from 'node:net'; import dgram from 'node:dgram'; import dns from 'node:dns/promises'; import os from 'node:os'; import zlib from 'node:zlib'; import path from 'node:path';
import fs from 'node:fs'; import fsp from 'node:fs/promises'; import { once } from 'node:events'; import { pipeline } from 'node:stream/promises'; import readline from 'node:readline';
import { spawn, spawnSync, execFileSync, fork } from 'node:child_process'; import { Worker, isMainThread } from 'node:worker_threads'; import crypto from 'node:crypto'; import cluster from 'node:cluster';
import { promisify } from 'node:util'; import { setTimeout as sleep } from 'node:timers/promises'; import { performance } from 'node:perf_hooks';

const get = (options) => new Promise((good, bad) => http.get(options, (r) => { const parts = []; r.on('data', (p) => parts.push(p)); r.on('end', () => good(Buffer.concat(parts))); }).on('error', bad));
const body = Buffer.alloc(300000, 'abc');
const server = http.createServer((q, r) => q.url === '/post' ? pipeline(q, r) : r.end(body)).listen(0, '127.0.0.1'); await once(server, 'listening');
const port = server.address().port; const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
const answers = await Promise.all(Array.from({ length: 200 }, () => get({ port, host: '127.0.0.1', agent })));
console.log('http', answers.length, answers.every((a) => a.equals(body)));
console.log('fetch', (await (await fetch(`http://127.0.0.1:${port}/post`, { method: 'POST', body: 'x'.repeat(100000) })).text()).length);
agent.destroy(); server.closeAllConnections(); server.close(); await once(server, 'close');
await once(http.get({ port, host: '127.0.0.1' }), 'error').then(([e]) => console.log('refused', e.code));

const local = net.createServer((c) => c.pipe(c)).listen('/tmp/node.sock'); await once(local, 'listening');
const c = net.connect('/tmp/node.sock'); c.end('over a local socket'); console.log((await c.toArray()).toString()); local.close();
const u = dgram.createSocket('udp4'); u.bind(0, '127.0.0.1'); await once(u, 'listening'); const got = once(u, 'message'); u.send('udp', u.address().port, '127.0.0.1'); console.log((await got)[0].toString()); u.close();
console.log('dns', (await dns.lookup('localhost', { family: 4 })).address, await dns.lookup('name.invalid').catch((e) => e.syscall));

const shared = new Int32Array(new SharedArrayBuffer(8));
const code = `const { workerData, parentPort } = require('worker_threads'); for (let i = 0; i < 20000; i++) Atomics.add(workerData, 0, 1); Atomics.notify(workerData, 1); parentPort.once('message', (m) => { parentPort.postMessage(m * 2); });`;
const workers = Array.from({ length: 4 }, () => new Worker(code, { eval: true, workerData: shared }));
const doubled = await Promise.all(workers.map(async (w, i) => { const exit = once(w, 'exit'); const answer = once(w, 'message'); w.postMessage(i); await exit; return (await answer)[0]; }));
console.log('workers', doubled, shared[0], Atomics.wait(shared, 0, shared[0], 30));
const thrown = new Worker('throw new RangeError("out")', { eval: true }); console.log('thrown', (await once(thrown, 'error'))[0].message);
const endless = new Worker('for (;;);', { eval: true }); await once(endless, 'online'); console.log('terminated', await endless.terminate());
const small = new Worker('const a = []; for (;;) a.push(new Array(1000).fill(1))', { eval: true, resourceLimits: { maxOldGenerationSizeMb: 8 } }); console.log('heap', (await once(small, 'error'))[0].code);

console.log('exec', execFileSync('sh', ['-c', 'cat; echo to err >&2'], { input: 'in', stdio: ['pipe', 'pipe', 'ignore'] }).toString(), spawnSync('sh', ['-c', 'kill -9 $$']).signal, spawnSync('sh', ['-c', 'exit 7']).status, spawnSync('/nowhere').error.code, spawnSync('sleep', ['9'], { timeout: 50 }).error.code);
const sort = spawn('sort', ['-n']); sort.stdin.end(Array.from({ length: 5000 }, (_, i) => 5000 - i).join('\n') + '\n'); const lines = []; for await (const line of readline.createInterface({ input: sort.stdout })) lines.push(line); console.log('spawn', lines.length, lines[0], lines[4999]);
await fsp.writeFile('child.mjs', 'process.on("message", (m) => { process.send({ got: m }); process.disconnect(); })'); const child = fork('child.mjs'); const gone = once(child, 'exit'); child.send({ a: [1, 2] }); console.log('fork', JSON.stringify((await once(child, 'message'))[0]), (await gone)[0]);
const many = await Promise.all(Array.from({ length: 12 }, async (_, i) => (await once(spawn('sh', ['-c', `exit ${i}`]), 'exit'))[0])); console.log('children', many.join());
const signalled = spawn(process.execPath, ['-e', 'process.on("SIGTERM", () => process.exit(3)); setInterval(() => 0, 1000); console.log("up")']); await once(signalled.stdout, 'data'); signalled.kill(); console.log('signal', await once(signalled, 'exit'));

await fsp.mkdir('w/sub', { recursive: true }); const seen = new Set(); const watcher = fs.watch('w', (type, name) => seen.add(`${type} ${name}`)); 
await fsp.writeFile('w/new', '1'); await fsp.rename('w/new', 'w/newer'); await fsp.unlink('w/newer'); while (![...seen].some((s) => s === 'rename newer')) await sleep(5); watcher.close(); console.log('watch', seen.has('rename new'), seen.has('rename newer'));
const polled = new Promise((good) => fs.watchFile('w', { interval: 20 }, () => { fs.unwatchFile('w'); good('polled'); })); await fsp.mkdir('w/more'); console.log(await polled);

await fsp.writeFile('big', crypto.createHash('sha256').update('seed').digest('hex').repeat(20000)); await pipeline(fs.createReadStream('big'), zlib.createGzip(), fs.createWriteStream('big.gz')); await pipeline(fs.createReadStream('big.gz'), zlib.createGunzip(), fs.createWriteStream('big2'));
console.log('gzip', (await fsp.readFile('big')).equals(await fsp.readFile('big2')), (await fsp.stat('big2')).size); await fsp.cp('w', 'copy', { recursive: true }); console.log((await fsp.readdir('copy')).join()); await fsp.symlink('big', 'link'); console.log(await fsp.realpath('link'), (await fsp.lstat('link')).isSymbolicLink(), await fsp.access('none').catch((e) => e.code), await fsp.open('w').then((d) => d.read(Buffer.alloc(1))).catch((e) => e.code)); await fsp.rm('copy', { recursive: true });
console.log('truncate', await fsp.truncate('big2', 10).then(() => fs.statSync('big2').size), await fsp.utimes('big2', 1, 2).then(() => fs.statSync('big2').mtimeMs), await fsp.copyFile('big', 'big3', fs.constants.COPYFILE_FICLONE).then(() => fs.statSync('big3').size));
const keys = await Promise.all(Array.from({ length: 8 }, (_, i) => promisify(crypto.scrypt)('p', `s${i}`, 16))); console.log('scrypt', keys.map((k) => k.toString('hex').slice(0, 4)).join());
let ticks = 0; const timer = setInterval(() => ticks++, 2); const began = performance.now(); await sleep(100); clearInterval(timer); console.log('timers', ticks > 5, performance.now() - began >= 99);
console.log(os.cpus().length > 0, os.totalmem() > 0, os.userInfo().username, os.hostname(), os.networkInterfaces().lo?.length, os.platform(), process.memoryUsage().rss > 1e7, process.resourceUsage().maxRSS > 10000, os.getPriority());
const sigs = once(process, 'SIGUSR2'); process.kill(process.pid, 'SIGUSR2'); console.log((await sigs)[0]);
END
node --no-warnings all.mjs
cat > cluster.js <<'END'
const cluster = require('cluster'), http = require('http');
if (cluster.isPrimary) {
  const workers = [cluster.fork(), cluster.fork()]; let up = 0;
  cluster.on('listening', async (w, address) => { if (++up < 2) return; let n = 0; for (let i = 0; i < 40; i++) n += (await (await fetch(`http://127.0.0.1:${address.port}`)).text()).length; console.log('cluster', n); workers[0].process.kill('SIGKILL'); workers[1].disconnect(); });
  cluster.on('exit', (w, code, signal) => { console.log('gone', code, signal); });
} else http.createServer((q, r) => r.end('ok')).listen(8125, '127.0.0.1');
END
node --no-warnings cluster.js | sort
node -e 'process.abort()' >/dev/null 2>&1 || echo aborted $?
node --max-old-space-size=30 -e 'const a=[]; for(;;) a.push(new Array(1e4).fill(1))' >/dev/null 2>&1 || echo out of heap $?
echo 'console.log(require("fs").readFileSync(0, "utf8").length)' > stdin.js; seq 10000 | node stdin.js; node -e 'console.log(process.stdout.isTTY, process.argv0)' | cat
node --prof -e 'let s = 0; for (let i = 0; i < 1e7; i++) s += i; console.log(s)'; ls isolate*.log | wc -l
