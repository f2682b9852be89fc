import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { stripAnsiCode } from "@std/fmt/colors";
import { push } from "../../lib/deploy/push.ts";
import type { PushOptions } from "../../lib/deploy/run.ts";
import { ConfigError, UsageError } from "../../lib/errors.ts";
import { PlainProgress } from "../../lib/ui/progress.ts";
import { renderReport, reportJson } from "../../lib/ui/report.ts";
import { CAN_RUN_SSHD, Sshd } from "./sshd.ts";

/** Answers like a host, writes down what it was asked, and cuts the connection where a real one does. */
const FAKE_HOST = `#!/bin/sh
[ "$2" = session ] || exit 2
echo '{"event":"ready"}'
answer() { printf '{"event":"result","id":%s,"result":%s}\\n' "$id" "$1"; }
while read -r line; do
id=\${line#*\\"id\\":}; id=\${id%%,*}
verb=\${line#*\\"verb\\":\\"}; verb=\${verb%%\\"*}
request=\${line#*\\"request\\":}; request=\${request%?}
printf '%s %s\\n' "$verb" "$request" >>/opt/calls
if [ -f /opt/fail-$verb ]; then
  printf '{"event":"error","id":%s,"kind":"HostError","message":"Cannot do it: asked to fail; expected not to"}\\n' "$id"
  continue
fi
kernel='{"wireguard":"kernel","datapath":"system"}'
boot=boot$(cat /opt/boots 2>/dev/null | wc -l)
case $verb in
prepare)
  printf '{"event":"step","id":%s,"title":"make key"}\\n' "$id"
  new=true; [ -f /opt/installed ] && new=false
  answer "{\\"publicKey\\":\\"$(cat /opt/key)\\",\\"capabilities\\":$kernel,\\"newlyInstalled\\":$new,\\"packagesInstalled\\":[],\\"underlayMtu\\":1500}" ;;
stage) answer '{"generation":1,"changed":true,"files":["/etc/a"]}' ;;
activate)
  if [ -f /opt/cut ]; then kill -9 $PPID; exit; fi
  answer '{"cutsConnection":true,"steps":["move eth0"]}' ;;
status) answer "{\\"generation\\":1,\\"activation\\":\\"done\\",\\"capabilities\\":$kernel,\\"bootId\\":\\"$boot\\"}" ;;
probe) answer "{\\"pings\\":[1.5],\\"names\\":[\\"10.31.128.2\\"],\\"capabilities\\":$kernel,\\"clock\\":1}" ;;
confirm) touch /opt/installed; answer '{"generation":1}' ;;
reboot) answer "{\\"bootId\\":\\"$boot\\"}"; echo >>/opt/boots; kill -9 $PPID ;;
esac
done
`;

const KEY = "hIA3ikjlSOAo0qqrI+rXaS3ZH04nx7Q2YQ4m2Syzd+U=";
const HOSTS = `all:
  hosts:
    198.51.100.2: { host_id: 2, hostname: web2, mobula_access: auto }
`;

interface Bench {
  readonly sshd: Sshd;
  readonly lines: string[];
  /** Pushes, and gives the result with the verbs the host was asked since the last time. */
  push(
    changes?: Partial<PushOptions>,
  ): Promise<{ result: Awaited<ReturnType<typeof push>>; verbs: string[] }>;
}

function pushTest(name: string, test: (bench: Bench) => Promise<void>): void {
  Deno.test({
    name,
    ignore: !CAN_RUN_SSHD,
    fn: async () => {
      const sshd = await Sshd.start(500);
      try {
        await Deno.writeTextFile(`${sshd.directory}/program`, FAKE_HOST);
        await Deno.writeTextFile(`${sshd.directory}/hosts.yml`, HOSTS);
        await sshd.inside(`echo ${KEY} >/opt/key`);
        await test(benchFor(sshd));
      } finally {
        await sshd.stop();
      }
    },
  });
}

function benchFor(sshd: Sshd): Bench {
  const lines: string[] = [];
  const options: PushOptions = {
    hostsPath: `${sshd.directory}/hosts.yml`,
    limit: [],
    parallel: 20,
    reboot: true,
    keepKeys: false,
    reinstall: false,
    sshConfig: `${sshd.directory}/ssh_config`,
    acceptNewHostKeys: false,
    executable: `${sshd.directory}/program`,
  };
  return {
    sshd,
    lines,
    async push(changes = {}) {
      const progress = new PlainProgress({ verbose: true, write: (line) => lines.push(line) });
      const result = await push({ ...options, ...changes }, progress);
      const calls = await sshd.inside("cat /opt/calls 2>/dev/null || true; rm -f /opt/calls");
      const verbs = calls.split("\n").flatMap((line) => line.split(" ")[0] || []);
      // A machine that is busy is asked for its status once more: how often is no matter here.
      return {
        result,
        verbs: verbs.filter((verb, index) => verb !== "status" || verbs[index - 1] !== "status"),
      };
    },
  };
}

pushTest("push: all phases in their order, and nothing sent the second time", async (bench) => {
  const first = await bench.push();
  assertEquals(bench.lines.filter((line) => /FAILED|note: (?!kernel )/.test(line)), []);
  assertEquals(first.result.exitCode, 0);
  const verbs = [
    "prepare",
    "stage",
    "activate",
    "status",
    "probe",
    "confirm",
    "status",
    "reboot",
    "status",
    "probe",
  ];
  assertEquals(first.verbs, verbs);
  assertEquals(
    [...first.result.seconds.keys()].join(),
    [
      ...[
        "load",
        "connect",
        "look",
        "lock",
        "preflight",
        "copy",
        "prepare",
        "stage",
        "activate",
        "verify",
        "confirm",
      ],
      ...["reboot", "verify again"],
    ].join(),
  );
  assert(bench.lines.includes("web2: - make key"));
  const pubkeys = await Deno.readTextFile(`${bench.sshd.directory}/wireguard_pubkeys.yml`);
  assertMatch(pubkeys, new RegExp(`198.51.100.2: "${KEY.replaceAll("+", "\\+")}" # since 20`));
  assertEquals(first.result.push.hosts[0]?.copied, true);

  const second = await bench.push();
  assertEquals(second.verbs, ["prepare", "stage", "activate", "status", "probe", "confirm"]);
  assertEquals(second.result.push.hosts[0]?.copied, undefined);
  assertEquals(await Deno.readTextFile(`${bench.sshd.directory}/wireguard_pubkeys.yml`), pubkeys);
  assertMatch(
    stripAnsiCode(renderReport(second.result)),
    /web2.*id 2.*updated[\s\S]*seconds: load [\s\S]*Done: 1 of 1 hosts/,
  );
  assertEquals((reportJson(second.result) as { ok: boolean }).ok, true);

  assertEquals((await bench.push({ reinstall: true })).verbs, verbs);
  assertEquals((await bench.push({ reinstall: true, reboot: false })).verbs, verbs.slice(0, 6));
});

pushTest("push: an answer that dies with the connection is asked for again over a new one", async (bench) => {
  await bench.sshd.inside("touch /opt/cut");
  const { result, verbs } = await bench.push({ reboot: false });
  assertEquals(result.exitCode, 0, bench.lines.join("\n"));
  assertEquals(verbs, ["prepare", "stage", "activate", "status", "probe", "confirm"]);
});

pushTest("push: a host that fails drops out with its error and is asked no more", async (bench) => {
  await bench.sshd.inside("touch /opt/fail-stage");
  const { result, verbs } = await bench.push();
  assertEquals(verbs, ["prepare", "stage"]);
  assertEquals(result.exitCode, 1);
  assertMatch(stripAnsiCode(renderReport(result)), /✗.*web2.*failed in stage:\s+Cannot do it: asked to fail/);
});

pushTest(
  "push: a dead host neither stops the others nor is hidden, keeps its key, and keeps the others from new ones",
  async (bench) => {
    const { directory } = bench.sshd;
    const other = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=";
    await Deno.writeTextFile(
      `${directory}/hosts.yml`,
      `${HOSTS}    198.51.100.3: { host_id: 3, hostname: web3, ansible_host: 127.0.0.1, ansible_port: 2 }\n`,
    );
    await Deno.writeTextFile(
      `${directory}/wireguard_pubkeys.yml`,
      `198.51.100.3: "${other}" # since 2026-01-02T03:04:05Z\n`,
    );
    const program = FAKE_HOST.replace(
      "printf '%s %s",
      `echo "$request" >>/opt/requests; printf '%s %s`,
    );
    await Deno.writeTextFile(`${directory}/program`, program);
    const { result } = await bench.push({ reboot: false });
    assertEquals(result.exitCode, 1);
    assertMatch(
      renderReport(result),
      /web3.*failed in connect[\s\S]*refused[\s\S]*1 of 2 hosts done, 1 failed/,
    );
    assertMatch(
      await Deno.readTextFile(`${directory}/wireguard_pubkeys.yml`),
      /198.51.100.3: "gN65.*2026-01-02T03:04:05Z/,
    );
    const requests = await bench.sshd.inside("cat /opt/requests");
    assertMatch(requests, /"keys":"keep"/);
    const config = JSON.parse(requests.split("\n").find((line) => line.includes('"config"'))!).config;
    assertEquals(config.hosts.map(({ publicKey }: { publicKey: string }) => publicKey), [KEY, other]);
    assertEquals((await bench.push({ limit: ["web3"] })).result.exitCode, 3);
  },
);

pushTest("push: mistakes in the configuration and in --limit touch nothing", async (bench) => {
  const error = await assertRejects(() => bench.push({ limit: ["web22"] }), UsageError);
  assertMatch(error.message, /web22.*Did you mean web2/);
  await Deno.writeTextFile(`${bench.sshd.directory}/hosts.yml`, HOSTS.replace("host_id: 2", "host_id: 0"));
  await assertRejects(() => bench.push(), ConfigError);
  assertEquals(await bench.sshd.inside("ls /opt"), "key\n");
});

pushTest("push: interrupted, it ends at once and leaves nothing behind on this machine", async (bench) => {
  const interrupt = new AbortController();
  const temporary = `${bench.sshd.directory}/tmp`;
  await Deno.mkdir(temporary);
  const before = Deno.env.get("TMPDIR");
  Deno.env.set("TMPDIR", temporary);
  await Deno.writeTextFile(
    `${bench.sshd.directory}/program`,
    FAKE_HOST.replace("stage)", "stage) sleep 60;"),
  );
  const running = assertRejects(() => bench.push({ signal: interrupt.signal }));
  const deadline = Date.now() + 20_000;
  while (!bench.lines.some((line) => line.includes("stage")) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  interrupt.abort();
  const start = performance.now();
  const { message } = await running;
  if (before === undefined) Deno.env.delete("TMPDIR");
  else Deno.env.set("TMPDIR", before);
  assertMatch(message, /Interrupted/);
  assert(performance.now() - start < 5000);
  assertEquals([...Deno.readDirSync(temporary)], []);
});
