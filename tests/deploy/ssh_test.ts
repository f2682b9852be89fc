import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { sendExecutable } from "../../lib/deploy/copy.ts";
import { look } from "../../lib/deploy/look.ts";
import { HostError, TransportError } from "../../lib/errors.ts";
import { waitFor } from "../lab/wait.ts";
import { CAN_RUN_SSHD, kill, sh, Sshd } from "./sshd.ts";

async function withSshd(test: (sshd: Sshd) => Promise<void>): Promise<void> {
  const sshd = await Sshd.start();
  try {
    await test(sshd);
  } finally {
    await sshd.stop();
  }
}

function sshTest(name: string, test: (sshd: Sshd) => Promise<void>): void {
  Deno.test({ name, ignore: !CAN_RUN_SSHD, fn: () => withSshd(test) });
}

async function transportError(action: () => Promise<unknown>): Promise<TransportError> {
  const error = await assertRejects(action, TransportError);
  assert(error.message.startsWith("web1: "), error.message);
  return error;
}

sshTest(
  "SshRunner.exec: output, exit code and words arrive as they are, over one connection",
  async (sshd) => {
    const runner = sshd.runner();
    await runner.connect();
    const words = ["a b", "'", '"', "$HOME", "`id`", "\\", "*", "", "line\nbreak", "-n", "é"];
    const { stdout } = await runner.exec(["printf", "<%s>", ...words]);
    assertEquals(stdout, words.map((word) => `<${word}>`).join(""));
    for (const code of [0, 1, 42, 255]) {
      assertEquals((await runner.exec(["sh", "-c", `echo out; echo err >&2; exit ${code}`])).code, code);
    }
    const lines: string[] = [];
    await runner.exec(["printf", "one\\ntwo\\nthree"], { onLine: (line) => lines.push(line) });
    assertEquals(lines, ["one", "two", "three"]);
    assertEquals(runner.connections, 1);
    assertEquals((await sshd.sessions()).length, 1);
  },
);

sshTest("SshRunner.exec: large standard input arrives whole, a command may ignore it", async (sshd) => {
  const runner = sshd.runner();
  await runner.connect();
  const megabyte = new Uint8Array(1024 * 1024).fill(120);
  const stream = () =>
    ReadableStream.from((function* () {
      for (let i = 0; i < 30; i++) yield megabyte;
    })());
  const { stdout } = await runner.exec(["wc", "-c"], { stdin: stream() });
  assertEquals(stdout.trim(), String(30 * 1024 * 1024));
  assertEquals((await runner.exec(["true"], { stdin: stream() })).code, 0);
});

sshTest("SshRunner.writeFile: whole, with its mode, and removed again", async (sshd) => {
  const runner = sshd.runner();
  await runner.connect();
  assertEquals(await runner.readFile("/opt/a/b c"), undefined);
  await runner.writeFile({ path: "/opt/a/b c", content: "x'y\n", mode: 0o600 });
  assertEquals(await runner.readFile("/opt/a/b c"), "x'y\n");
  assertEquals(await sshd.inside('stat -c %a "/opt/a/b c"; ls /opt/a | wc -l'), "600\n1\n");
  await runner.writeFile({ path: "/opt/a/b c", content: undefined });
  assertEquals(await runner.readFile("/opt/a/b c"), undefined);
});

sshTest("SshRunner: the user's agent stays here, whatever the configuration says", async (sshd) => {
  const socket = `${sshd.directory}/agent`;
  const agent = new Deno.Command("ssh-agent", { args: ["-D", "-a", socket], stdout: "null", stderr: "null" })
    .spawn();
  const before = Deno.env.get("SSH_AUTH_SOCK");
  Deno.env.set("SSH_AUTH_SOCK", socket);
  try {
    const configFile = `${sshd.directory}/forwarding_config`;
    const usual = await Deno.readTextFile(`${sshd.directory}/ssh_config`);
    await Deno.writeTextFile(configFile, `ForwardAgent yes\nForwardX11 yes\n${usual}`);
    await waitFor("the agent", () => Deno.statSync(socket).isSocket);
    const runner = sshd.runner({}, { configFile });
    await runner.connect();
    const { stdout } = await runner.exec([
      "sh",
      "-c",
      'echo "${SSH_AUTH_SOCK:-no agent} ${DISPLAY:-no display}"',
    ]);
    assertEquals(stdout, "no agent no display\n");
    await runner.close();
  } finally {
    if (before === undefined) Deno.env.delete("SSH_AUTH_SOCK");
    else Deno.env.set("SSH_AUTH_SOCK", before);
    agent.kill();
    await agent.status;
  }
});

sshTest(
  "SshRunner.exec: a host that says too much is named, and not listened to any longer",
  async (sshd) => {
    const runner = sshd.runner();
    await runner.connect();
    for (const script of ["yes", "yes >&2", "yes | tr -d '\\n'"]) {
      await assertRejects(
        () => runner.exec(["sh", "-c", script]),
        HostError,
        "web1: Cannot read what the host says: more than",
      );
    }
    await assertRejects(
      () => runner.exec(["sleep", "60"], { milliseconds: 200 }),
      TransportError,
      "no end in time",
    );
    await runner.close();
  },
);

sshTest("SshRunner.connect: refused and unreachable may be retried", async (sshd) => {
  const refused = await transportError(() => sshd.runner({ port: 2 }).connect());
  assertEquals(refused.options.retry, true);
  assertMatch(refused.message, /connection refused/);
  const unreachable = await transportError(() => sshd.runner({ host: "192.0.2.9" }).connect());
  assertEquals(unreachable.options.retry, true);
  assertMatch(unreachable.message, /no route/);
  const unnamed = await transportError(() => sshd.runner({ host: "no..where" }).connect());
  assertMatch(unnamed.message, /cannot be resolved/);
});

sshTest("SshRunner.connect: a silent server ends within the time", async (sshd) => {
  await sshd.inside(
    `printf "table ip t {\\nchain c {\\ntype filter hook input priority 0\\ntcp dport 22 drop\\n}\\n}\\n" | nft -f -`,
  );
  const error = await transportError(() => sshd.runner({}, { connectTimeoutSeconds: 1 }).connect());
  assertEquals(error.options.retry, true);
  assertMatch(error.message, /no answer in time/);
});

sshTest("SshRunner.connect: an unknown host key is final, unless new ones are accepted", async (sshd) => {
  await Deno.writeTextFile(`${sshd.directory}/known_hosts`, "");
  const error = await transportError(() => sshd.runner().connect());
  assertEquals(error.options.retry, false);
  assertMatch(error.message, /not known.*--accept-new-host-keys/);
  await sshd.runner({}, { acceptNewHostKeys: true }).connect();
  await sshd.runner().connect();
});

sshTest("SshRunner.connect: a changed host key is final, also when new ones are accepted", async (sshd) => {
  const other = (await Deno.readTextFile(`${sshd.directory}/other.pub`)).split(" ").slice(0, 2).join(" ");
  await Deno.writeTextFile(`${sshd.directory}/known_hosts`, `# comment\n127.0.0.1 ${other}\n`);
  for (const acceptNewHostKeys of [false, true]) {
    const error = await transportError(() => sshd.runner({}, { acceptNewHostKeys }).connect());
    assertEquals(error.options.retry, false);
    assertMatch(error.message, /host key has changed/);
    assertMatch(
      error.message,
      new RegExp(`known_hosts, line 2.*ssh-keygen -R 127.0.0.1 -f ${sshd.directory}/known_hosts`),
    );
  }
});

sshTest("SshRunner.connect: a refused login is final", async (sshd) => {
  const error = await transportError(() => sshd.runner({ user: "nobody" }).connect());
  assertEquals(error.options.retry, false);
  assertMatch(error.message, /Permission denied/);
  const wrongKey = `${sshd.directory}/other`;
  await Deno.writeTextFile(
    `${sshd.directory}/ssh_config`,
    (await Deno.readTextFile(`${sshd.directory}/ssh_config`)).replace(/IdentityFile.*/, ""),
  );
  const keyError = await transportError(() => sshd.runner({ identityFile: wrongKey }).connect());
  assertMatch(keyError.message, /Permission denied/);
  await sshd.runner({ identityFile: `${sshd.directory}/user` }).connect();
});

sshTest("SshRunner.exec: a cut connection is a TransportError, and a new one can be made", async (sshd) => {
  const runner = sshd.runner();
  await runner.connect();
  const { promise: started, resolve } = Promise.withResolvers<void>();
  const running = transportError(() =>
    runner.exec(["sh", "-c", "echo started; exec sleep 60"], { onLine: () => resolve() })
  );
  await started;
  for (const pid of await sshd.sessions()) kill(pid, "SIGKILL");
  assertEquals((await running).options.retry, true);
  assertEquals((await transportError(() => runner.exec(["true"]))).options.retry, true);
  await runner.connect();
  assertEquals((await runner.exec(["echo", "back"])).stdout, "back\n");
  assertEquals(runner.connections, 2);
});

sshTest(
  "SshRunner.connect: a connection that died silently is dropped without waiting for it",
  async (sshd) => {
    const runner = sshd.runner();
    await runner.connect();
    const frozen = await sshd.sessions();
    for (const pid of frozen) kill(pid, "SIGSTOP");
    const start = performance.now();
    await runner.connect();
    assertEquals((await runner.exec(["echo", "back"])).stdout, "back\n");
    assert(performance.now() - start < 5000);
  },
);

/** Puts a program named sudo on the host's PATH. */
async function fakeSudo(sshd: Sshd, text: string): Promise<void> {
  await sshd.inside("mount -t tmpfs tmpfs /usr/local; mkdir /usr/local/bin");
  await Deno.writeTextFile(`${sshd.directory}/sudo`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  await sshd.inside(`cp ${sshd.directory}/sudo /usr/local/bin/sudo`);
}

sshTest("SshRunner.exec: through sudo, which forgets the session's port", async (sshd) => {
  await fakeSudo(
    sshd,
    `[ "$1 $2" = "-n --" ] || exit 9; shift 2; unset SSH_CONNECTION; AS_ROOT=yes exec "$@"`,
  );
  const runner = sshd.runner({ become: true });
  await runner.connect();
  assertEquals((await runner.exec(["sh", "-c", "echo $AS_ROOT"])).stdout, "yes\n");
  assertEquals((await runner.exec(["sh", "-c", "echo $AS_ROOT"], { become: false })).stdout, "\n");
  assertEquals((await look("web1", runner)).sshPort, 22);
});

sshTest("SshRunner.exec: a sudo that wants a password is a HostError with the way out", async (sshd) => {
  await fakeSudo(sshd, "echo 'sudo: a password is required' >&2; exit 1");
  const runner = sshd.runner({ become: true });
  await runner.connect();
  for (const action of [() => look("web1", runner), () => runner.exec(["true"])]) {
    const error = await assertRejects(action, HostError);
    assertMatch(error.message, /web1: Cannot become root: sudo: a password is required.*NOPASSWD/);
  }
});

sshTest("look: reads a real host", async (sshd) => {
  const runner = sshd.runner();
  await runner.connect();
  const facts = await look("web1", runner);
  assertEquals(facts.root, true);
  assertEquals(facts.sshPort, 22);
  assertEquals(facts.architecture, Deno.build.arch);
  assertEquals([facts.externalInterface, facts.externalMtu, facts.defaultGateway], [
    "eth0",
    1500,
    "198.51.100.1",
  ]);
  assertEquals(facts.addresses, [
    { interface: "lo", address: "127.0.0.1/8" },
    { interface: "eth0", address: "198.51.100.2/24" },
  ]);
  assert(Math.abs(facts.clock - Date.now() / 1000) < 5);
  assert(facts.freeMiB > 15 && facts.freeMiB <= 24, String(facts.freeMiB));
});

sshTest("sendExecutable: arrives whole; a full disk and a wrong hash leave nothing behind", async (sshd) => {
  const runner = sshd.runner();
  await runner.connect();
  const pack = async (bytes: number) => {
    await sh(`head -c ${bytes} /dev/urandom >${sshd.directory}/program; gzip -kf ${sshd.directory}/program`);
    const hash = (await sh(`sha256sum ${sshd.directory}/program`)).slice(0, 64);
    return { path: `${sshd.directory}/program.gz`, hash };
  };
  const full = await assertRejects(
    async () => sendExecutable("web1", runner, await pack(40_000_000)),
    HostError,
  );
  assertMatch(full.message, /web1: Cannot copy.*no space left/);
  assertEquals(await sshd.inside("find /opt -type f"), "");
  const good = await pack(1_000_000);
  const wrong = await assertRejects(
    () => sendExecutable("web1", runner, { ...good, hash: "0".repeat(64) }),
    HostError,
  );
  assertMatch(wrong.message, /not what was sent/);
  assertEquals(await sshd.inside("find /opt -type f"), "");
  await sendExecutable("web1", runner, good);
  assertEquals(
    await sshd.inside("cd /opt/mobula/bin; ls -A; stat -c %a mobula; sha256sum mobula"),
    `mobula\n755\n${good.hash}  mobula\n`,
  );
});

sshTest("SshRunner: ends with its process, even by SIGKILL", async (sshd) => {
  const script = `import { SshRunner } from ${
    JSON.stringify(new URL("../../lib/deploy/ssh.ts", import.meta.url).href)
  };
    const runner = new SshRunner("web1", { host: "127.0.0.1", become: false }, ${
    JSON.stringify({ controlDirectory: sshd.directory, configFile: `${sshd.directory}/ssh_config` })
  });
    await runner.connect(); console.log("connected"); await new Promise(() => setInterval(() => {}, 1000));`;
  const file = `${sshd.directory}/deployer.ts`;
  await Deno.writeTextFile(file, script);
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--config", config, file],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  assertEquals((await sshd.sessions()).length, 1);
  child.kill("SIGKILL");
  await reader.cancel();
  await child.status;
  const deadline = Date.now() + 5000;
  while ((await sshd.sessions()).length > 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assertEquals(await sshd.sessions(), []);
});
