// testcontainers for Node: containers of tests, with their ports, logs, files and networks.
//
// Speaks to the engine of DOCKER_HOST, which has the image busybox and no containers. Without
// Ryuk, whose image is not here.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { GenericContainer, Network, Wait } = require("testcontainers");

const server = () =>
  new GenericContainer("busybox")
    .withCommand(["sh", "-c", "echo a page > /www; exec httpd -f -p 8080 -h /"])
    .withExposedPorts(8080);

async function text(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces.map((piece) => Buffer.from(piece))).toString();
}

async function portsArePublishedAndAnswer() {
  const container = await server().withWaitStrategy(Wait.forListeningPorts()).start();
  const address = `http://${container.getHost()}:${container.getMappedPort(8080)}/www`;
  assert.strictEqual(await (await fetch(address)).text(), "a page\n");
  assert.strictEqual(container.getFirstMappedPort(), container.getMappedPort(8080));
  await container.restart({ timeout: 0 });
  const again = `http://${container.getHost()}:${container.getMappedPort(8080)}/www`;
  assert.strictEqual(await (await fetch(again)).text(), "a page\n");
  await container.stop({ timeout: 0 });
  const waited = await server().withWaitStrategy(Wait.forHttp("/www", 8080).forStatusCode(200)).start();
  await waited.stop({ timeout: 0 });
}

// Resolves with what a stream that goes on said until there was this in it.
function until(stream, wanted) {
  return new Promise((resolve) => {
    let all = "";
    stream.on("data", (piece) => {
      all += piece;
      if (all.includes(wanted)) resolve(all);
    });
  });
}

async function outputIsWaitedForAndRead() {
  let consumed;
  const container = await new GenericContainer("busybox")
    .withCommand(["sh", "-c", "echo starting; sleep 0.2; echo it is ready; exec sleep 1000"])
    .withLogConsumer((stream) => (consumed = until(stream, "it is ready")))
    .withWaitStrategy(Wait.forLogMessage("it is ready"))
    .start();
  assert.ok((await consumed).includes("starting"));
  const logs = await until(await container.logs(), "it is ready");
  assert.ok(logs.includes("starting"), logs);
  await container.stop({ timeout: 0 });
}

async function settingsReachTheContainer() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "conex-"));
  fs.chmodSync(folder, 0o755);
  fs.writeFileSync(path.join(folder, "given"), "by the host\n");
  try {
    const container = await new GenericContainer("busybox")
      .withName("named")
      .withCommand(["sleep", "1000"])
      .withEnvironment({ ONE: "1" })
      .withLabels({ kind: "test" })
      .withHostname("host-of-tests")
      .withUser("1000:1000")
      .withWorkingDir("/work")
      .withTmpFs({ "/scratch": "size=1m" })
      .withUlimits({ nofile: { soft: 100, hard: 200 } })
      .withAddedCapabilities("NET_ADMIN")
      .withDroppedCapabilities("MKNOD")
      .withResourcesQuota({ memory: 0.125, cpu: 0.5 })
      .withSharedMemorySize(1 << 20)
      .withExtraHosts([{ host: "elsewhere", ipAddress: "10.1.2.3" }])
      .withBindMounts([{ source: folder, target: "/given", mode: "ro" }])
      .withHealthCheck({ test: ["CMD", "true"], interval: 100, retries: 3 })
      .withWaitStrategy(Wait.forHealthCheck())
      .start();
    assert.strictEqual(container.getName(), "/named");
    assert.strictEqual(container.getLabels().kind, "test");
    const shown = await container.exec(
      ["sh", "-c", "echo $ONE; hostname; id -u; pwd; ulimit -n; cat /given/given; grep elsewhere /etc/hosts"],
    );
    assert.strictEqual(shown.exitCode, 0);
    const lines = ["1", "host-of-tests", "1000", "/work", "100", "by the host", "10.1.2.3\telsewhere", ""];
    assert.strictEqual(shown.output, lines.join("\n"));
    const other = await container.exec(["sh", "-c", "id -u; pwd; echo $TWO; echo no >&2; exit 3"], {
      user: "0",
      workingDir: "/tmp",
      env: { TWO: "2" },
    });
    assert.deepStrictEqual([other.exitCode, other.stdout, other.stderr], [3, "0\n/tmp\n2\n", "no\n"]);
    await container.stop({ timeout: 0 });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

async function filesGoInAndComeOut() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "conex-"));
  fs.writeFileSync(path.join(folder, "file"), "of the host\n");
  try {
    const container = await new GenericContainer("busybox")
      .withCommand(["sh", "-c", "cat /in/content; exec sleep 1000"])
      .withCopyContentToContainer([{ content: "before the start\n", target: "/in/content", mode: 0o600 }])
      .withCopyFilesToContainer([{ source: path.join(folder, "file"), target: "/in/file" }])
      .withCopyDirectoriesToContainer([{ source: folder, target: "/in/folder" }])
      .withWaitStrategy(Wait.forLogMessage("before the start"))
      .start();
    const copied = await container.exec(["cat", "/in/file", "/in/folder/file"]);
    assert.strictEqual(copied.output, "of the host\nof the host\n");
    assert.strictEqual((await container.exec(["stat", "-c", "%a", "/in/content"])).output, "600\n");
    await container.copyContentToContainer([{ content: "while it runs\n", target: "/in/later" }]);
    const archive = await text(await container.copyArchiveFromContainer("/in/later"));
    assert.ok(archive.includes("while it runs\n"));
    const stopped = await container.stop({ timeout: 0, remove: false });
    const later = await text(await stopped.copyArchiveFromContainer("/in/later"));
    assert.ok(later.includes("while it runs\n"));
    const client = new (require("dockerode"))();
    await client.getContainer(stopped.getId()).remove({ v: true });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

async function containersMeetInANetwork() {
  const network = await new Network().start();
  const container = await server()
    .withNetwork(network)
    .withNetworkAliases("server")
    .withWaitStrategy(Wait.forListeningPorts())
    .start();
  assert.ok(container.getNetworkNames().includes(network.getName()));
  assert.strictEqual(container.getNetworkId(network.getName()), network.getId());
  const neighbour = await new GenericContainer("busybox")
    .withCommand(["sleep", "1000"])
    .withNetwork(network)
    .start();
  const fetched = await neighbour.exec(["wget", "-q", "-O", "-", "http://server:8080/www"]);
  assert.strictEqual(fetched.output, "a page\n");
  await neighbour.stop({ timeout: 0 });
  await container.stop({ timeout: 0 });
  await network.stop();
}

async function imagesAreMadeOfContainers() {
  const container = await new GenericContainer("busybox").withCommand(["sleep", "1000"]).start();
  await container.exec(["touch", "/made"]);
  const id = await container.commit({ repo: "made", tag: "1", author: "tests", comment: "made" });
  await container.stop({ timeout: 0 });
  const next = await new GenericContainer("made:1").withCommand(["sleep", "1000"]).start();
  assert.strictEqual((await next.exec(["test", "-f", "/made"])).exitCode, 0);
  await next.stop({ timeout: 0 });
  assert.ok(id);
}

const CASES = [
  portsArePublishedAndAnswer,
  outputIsWaitedForAndRead,
  settingsReachTheContainer,
  filesGoInAndComeOut,
  containersMeetInANetwork,
  imagesAreMadeOfContainers,
];

// Streams of logs keep no program alive, as the library has it.
setInterval(() => {}, 1000);

(async () => {
  for (const one of CASES) await one();
  console.log(JSON.stringify(CASES.map((one) => one.name)));
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
