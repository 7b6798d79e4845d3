// Containers through dockerode, the Node client: hijacked attach and exec, demultiplexed streams,
// followed logs, events, waits, volumes.
//
// Speaks to the engine of DOCKER_HOST, which has the image busybox and no containers.
'use strict';

const assert = require('assert');
const { PassThrough } = require('stream');
const Docker = require('dockerode');

const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') });

/** Everything a stream says until its end. */
async function all(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

/** A framed stream taken apart. */
async function apart(container, stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  container.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([all(out), all(err)]);
}

const create = (cmd, more = {}) => docker.createContainer({ Image: 'busybox', Cmd: cmd, ...more });

async function runs_and_tells_the_exit_code() {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const said = Promise.all([all(out), all(err)]);
  const script = 'echo hello; echo oops >&2; exit 4';
  const [data, container] = await docker.run('busybox', ['sh', '-c', script], [out, err], { Tty: false });
  out.end();
  err.end();
  assert.strictEqual(data.StatusCode, 4);
  assert.deepStrictEqual(await said, ['hello\n', 'oops\n']);
  await container.remove();
}

async function attaches_before_the_start_and_loses_nothing() {
  const container = await create(['sh', '-c', 'cat; echo end >&2'], {
    OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
  });
  const stream = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
  const parts = apart(container, stream);
  const ended = container.wait();
  await container.start();
  stream.write('one\n');
  stream.end('two\n');
  assert.deepStrictEqual(await parts, ['one\ntwo\n', 'end\n']);
  assert.strictEqual((await ended).StatusCode, 0);
  await container.remove();
}

async function has_a_terminal() {
  const container = await create(['sh'], { OpenStdin: true, Tty: true });
  const stream = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
  const said = all(stream);
  await container.start();
  await container.resize({ h: 33, w: 111 });
  stream.write('stty size; exit 3\n');
  assert.match(await said, /33 111/);
  assert.strictEqual((await container.wait()).StatusCode, 3);
  await container.remove();
}

async function executes_more_programs() {
  const container = await create(['sleep', '1000']);
  await container.start();
  let exec = await container.exec({ Cmd: ['sh', '-c', 'echo out; echo err >&2; exit 6'], AttachStdout: true, AttachStderr: true });
  assert.deepStrictEqual(await apart(container, await exec.start({ hijack: true, stdin: false })), ['out\n', 'err\n']);
  const about = await exec.inspect();
  assert.deepStrictEqual([about.ExitCode, about.Running], [6, false]);

  exec = await container.exec({ Cmd: ['wc', '-c'], AttachStdin: true, AttachStdout: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const parts = apart(container, stream);
  stream.end('x'.repeat(1000000));
  assert.deepStrictEqual(await parts, ['1000000\n', '']);

  exec = await container.exec({ Cmd: ['sh'], AttachStdin: true, AttachStdout: true, Tty: true });
  const terminal = await exec.start({ hijack: true, stdin: true, Tty: true });
  const said = all(terminal);
  await exec.resize({ h: 20, w: 70 });
  terminal.write('stty size; exit\n');
  assert.match(await said, /20 70/);
  await container.remove({ force: true });
}

async function follows_logs_to_the_end() {
  const container = await create(['sh', '-c', 'for n in 1 2 3; do echo $n; echo e$n >&2; done; read x; echo $x'], { OpenStdin: true });
  await container.start();
  const logs = await container.logs({ follow: true, stdout: true, stderr: true });
  const parts = apart(container, logs);
  const stream = await container.attach({ stream: true, hijack: true, stdin: true });
  stream.end('last\n');
  assert.deepStrictEqual(await parts, ['1\n2\n3\nlast\n', 'e1\ne2\ne3\n']);
  const tail = await container.logs({ stdout: true, tail: 1 });
  assert.strictEqual(tail.subarray(8).toString(), 'last\n');
  await container.remove();
}

async function hears_events_and_waits() {
  const events = await docker.getEvents({ filters: { type: ['container'] } });
  const seen = [];
  const heard = (async () => {
    let rest = '';
    for await (const piece of events) {
      const lines = (rest + piece).split('\n');
      rest = lines.pop();
      for (const line of lines.filter(Boolean)) {
        const { Action, Actor } = JSON.parse(line);
        seen.push([Action, Actor.Attributes.exitCode]);
        if (Action === 'destroy') return;
      }
    }
  })();
  const container = await create(['sh', '-c', 'exit 9'], { name: 'told', HostConfig: { AutoRemove: true } });
  const removed = container.wait({ condition: 'removed' });
  await container.start();
  assert.strictEqual((await removed).StatusCode, 9);
  await heard;
  events.destroy();
  assert.deepStrictEqual(seen, [['create', undefined], ['start', undefined], ['die', '9'], ['destroy', undefined]]);
}

async function refuses_with_a_status() {
  await assert.rejects(docker.getContainer('nosuch').inspect(), (error) => {
    assert.strictEqual(error.statusCode, 404);
    assert.strictEqual(error.json.message, 'No such container: nosuch');
    return true;
  });
  const container = await create(['true']);
  await container.start();
  await container.wait();
  await assert.rejects(container.kill(), { statusCode: 409 });
  await container.start();
  await container.wait();
  await container.remove();
  await assert.rejects(container.remove(), { statusCode: 404 });
}

async function keeps_volumes() {
  await docker.createVolume({ Name: 'kept', Labels: { tier: '1' } });
  const { Volumes } = await docker.listVolumes({ filters: { label: ['tier=1'] } });
  assert.deepStrictEqual(Volumes.map((v) => [v.Name, v.Driver, v.Options]), [['kept', 'local', null]]);
  const volume = docker.getVolume('kept');
  const container = await create(['true'], { HostConfig: { Binds: ['kept:/data'] } });
  await assert.rejects(volume.remove(), { statusCode: 409 });
  await container.remove({ v: true });
  await volume.remove();
  await assert.rejects(volume.inspect(), { statusCode: 404 });
}

const CASES = [
  runs_and_tells_the_exit_code,
  attaches_before_the_start_and_loses_nothing,
  has_a_terminal,
  executes_more_programs,
  follows_logs_to_the_end,
  hears_events_and_waits,
  refuses_with_a_status,
  keeps_volumes,
];

(async () => {
  for (const test of CASES) {
    try {
      await test();
    } catch (error) {
      console.error(test.name, error);
      process.exit(1);
    }
  }
  console.log(JSON.stringify(CASES.map((test) => test.name)));
})();
