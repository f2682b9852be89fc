import { assert, assertEquals, assertMatch } from "@std/assert";
import { EXIT } from "../../lib/errors.ts";
import { publicKeyOf } from "../../lib/keys.ts";
import { Secret } from "../../lib/secret.ts";
import { waitFor } from "../lab/wait.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

async function mobula(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--config", `${ROOT}deno.json`, `${ROOT}main.ts`, ...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

async function inFolder(
  files: Readonly<Record<string, string>>,
  test: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${folder}/${name}`, text);
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const HOSTS = `all:
  hosts:
    198.51.100.2: { host_id: 2, hostname: web2 }
    198.51.100.3: { host_id: 3, hostname: web3 }
`;

Deno.test("mobula --version: version, kind of build and runtime", async () => {
  const { code, stdout } = await mobula("--version");
  assertEquals(code, 0);
  assertMatch(stdout, /^mobula \d+\.\d+\.\d+ \(source, Deno \d+\.\d+\.\d+\)\n$/);
});

Deno.test("mobula --help: the verbs with examples, none of the internal ones", async () => {
  const { code, stdout } = await mobula("--help");
  assertEquals(code, 0);
  for (const verb of ["push", "install", "keys", "verify"]) {
    assertMatch(stdout, new RegExp(`^  ${verb} `, "m"));
  }
  assert(!/^ {2}(up|host)\b/m.test(stdout), stdout);
  assertMatch(stdout, /Examples:\n {2}mobula push/);
});

Deno.test("mobula <verb> --help: options and examples", async () => {
  const { code, stdout } = await mobula("push", "--help");
  assertEquals(code, 0);
  const options = [
    "--limit",
    "--parallel",
    "--no-reboot",
    "--keep-keys",
    "--reinstall",
    "--verbose",
    "--json",
    "--ssh-config",
  ];
  for (const option of [...options, "--accept-new-host-keys", "Examples:"]) {
    assert(stdout.includes(option), option);
  }
});

Deno.test("mobula: wrong usage ends with 2, and a slip gets a suggestion", async () => {
  const cases: readonly (readonly [string[], RegExp])[] = [
    [["psuh"], /unknown command 'psuh'\n\(Did you mean push\?\)/],
    [["push", "--no-rebot"], /unknown option '--no-rebot'\n\(Did you mean --no-reboot\?\)/],
    [["push", "--parallel", "0"], /--parallel.*Expected a whole number from 1/],
    [["push", "a.yml", "b.yml"], /too many arguments/],
    [["verify", "--wait", "soon"], /whole number of seconds/],
    [["install"], /--local/],
    [["host", "constructor"], /no such verb/],
    [[], /Usage: mobula/],
  ];
  for (const [args, pattern] of cases) {
    const { code, stdout, stderr } = await mobula(...args);
    assertMatch(stderr, pattern);
    assertEquals([code, stdout], [2, ""], args.join(" "));
  }
});

Deno.test("mobula: every mistake in the configuration at once, exit 2, for every verb that reads it", async () => {
  const broken = HOSTS.replace("host_id: 2", "host_id: 0").replace("hostname: web3", 'hostname: "a b"');
  await inFolder({ "hosts.yml": broken }, async (folder) => {
    for (const verb of ["push", "verify", "keys"]) {
      const { code, stderr } = await mobula(verb, `${folder}/hosts.yml`);
      assertEquals(code, 2);
      assertMatch(stderr, /host_id[\s\S]*hostname/);
    }
  });
  const { code, stderr } = await mobula("push", "/nonexistent/hosts.yml");
  assertEquals(code, 2);
  assertMatch(stderr, /\/nonexistent\/hosts\.yml: no such file/);
});

Deno.test("mobula push --limit: an unknown host ends with 2, with a suggestion", async () => {
  await inFolder({ "hosts.yml": HOSTS }, async (folder) => {
    const { code, stderr } = await mobula("push", `${folder}/hosts.yml`, "--limit", "wbe2");
    assertEquals(code, 2);
    assertMatch(stderr, /wbe2.*Did you mean web2/);
  });
});

Deno.test("mobula keys: a list for people and one for programs", async () => {
  const key = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=";
  const files = {
    "hosts.yml": HOSTS,
    "wireguard_pubkeys.yml": `198.51.100.2: "${key}" # since 2026-01-02T03:04:05Z\n`,
  };
  await inFolder(files, async (folder) => {
    const { stdout } = await mobula("keys", `${folder}/hosts.yml`);
    assertMatch(stdout, /web2 +2 +gN65.*\nweb3 +3 +none/);
    const json = JSON.parse((await mobula("keys", `${folder}/hosts.yml`, "--json")).stdout);
    assertEquals(json, [
      {
        hostname: "web2",
        id: 2,
        address: "198.51.100.2",
        public_key: key,
        since: "2026-01-02T03:04:05Z",
        pinned: false,
      },
      { hostname: "web3", id: 3, address: "198.51.100.3", public_key: null, since: null, pinned: false },
    ]);
  });
});

Deno.test("mobula keys generate: a pair that belongs together, another one each time", async () => {
  const first = JSON.parse((await mobula("keys", "generate", "--json")).stdout);
  assertEquals(Object.keys(first), ["private_key", "public_key"]);
  assertEquals(await publicKeyOf(new Secret(first.private_key)), first.public_key);
  const { stdout } = await mobula("keys", "generate");
  assertMatch(stdout, /^private_key: [A-Za-z0-9+/]{43}=\npublic_key: [A-Za-z0-9+/]{43}=\n$/);
  assert(!stdout.includes(first.private_key));
});

/** Bit of SIGTERM in the masks of /proc/<pid>/status (proc(5)). */
const TERMINATE = 1n << 14n;

for (const verb of [["host", "probe"], ["host", "listen"], ["host", "session"]]) {
  Deno.test(`${verb.join(" ")}: SIGTERM ends it at once, so no shutdown waits for it`, async () => {
    const main = new URL("../../main.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", main, ...verb],
      stdin: "piped",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const isReady = () => {
      const status = Deno.readTextFileSync(`/proc/${child.pid}/status`);
      return (BigInt(`0x${/^SigCgt:\s*(\w+)/m.exec(status)?.[1] ?? "0"}`) & TERMINATE) !== 0n;
    };
    const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
    await waitFor("the program to heed SIGTERM", isReady);
    child.kill("SIGTERM");
    const { code } = await child.status;
    clearTimeout(late);
    await child.stdin.close().catch(() => {});
    assertEquals(code, EXIT.interrupted);
  });
}
