/**
 * `mobula verify` as the judge: with real faults in the lab it says which link or which host is broken, and how. Faults are rules of
 * their own in a host's gateway, so that the network below breaks and not what mobula has configured. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { Lab } from "./lab.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { killProcess, start } from "./process.ts";
import { ask } from "./snapshot.ts";
import { ROUTER } from "./underlay.ts";
import { waitFor } from "./wait.ts";
import { TRIO } from "./trio.ts";

/** One with a blank `veth_fac0`, whose gateway asks in its place. */
const NAMES = TRIO.map(({ name }) => name);

/** What `verify --json` prints, as far as it is looked at here. */
interface Judgement {
  readonly ok: boolean;
  readonly causes: readonly { readonly hosts: readonly string[]; readonly message: string }[];
  readonly hosts: readonly {
    readonly hostname: string;
    readonly ok: boolean;
    readonly checks_by_kind: Readonly<Record<string, number>>;
  }[];
}

const { proof } = setStage<string>({ name: "verify", hosts: TRIO, prepare });

async function prepare(lab: Lab): Promise<string> {
  const program = await executable("compiled");
  await writeInventory(lab, {
    hostVars: { gamma: { mobula_access: "none" } },
    extraHosts: { "10.31.200.1": "printer.example" },
  });
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the push");
  return program;
}

async function judge(lab: Lab, program: string, expected: number, wait = 5): Promise<Judgement> {
  const result = await mobula(lab, { executable: program }, "verify", "--json", "--wait", String(wait));
  expectCode(result, expected, "verify");
  return JSON.parse(result.stdout);
}

/** Breaks something, asks for the judgement, mends it, and waits until all is well again. */
async function judgeWith(
  lab: Lab,
  program: string,
  { break: harm, mend, wait }: { break: () => Promise<unknown>; mend: () => Promise<unknown>; wait?: number },
): Promise<Judgement["causes"]> {
  await harm();
  try {
    return (await judge(lab, program, 1, wait)).causes;
  } finally {
    await mend();
    // A path that has died is held back for a while: the next fault must not be judged together with this one.
    await judge(lab, program, 0, 60);
  }
}

/** A rule for packets that come in from the underlay at one host. */
async function drop(lab: Lab, host: string, rule: string): Promise<void> {
  const table = `table inet fault { chain input { type filter hook input priority -10; ${rule} drop; }; }`;
  await ask(lab, host, ["nft", table], "mobula");
}

async function healed(lab: Lab, ...hosts: readonly string[]): Promise<void> {
  for (const host of hosts) await ask(lab, host, ["nft", "delete", "table", "inet", "fault"], "mobula");
}

function wireguardFrom(lab: Lab, host: string): string {
  return `ip saddr ${lab.host(host).address} udp dport 51820`;
}

/** The one cause that there is. */
function only(causes: Judgement["causes"], hosts: readonly string[], message: RegExp): void {
  const all = causes.map((cause) => cause.message).join("\n");
  assertEquals(causes.length, 1, all);
  assertEquals(causes[0]!.hosts, hosts, all);
  assertMatch(causes[0]!.message, message);
}

proof("verify: all is well, and every kind of check was made", async (lab, program) => {
  const { ok, causes, hosts } = await judge(lab, program, 0, 30);
  assertEquals([ok, causes], [true, []]);
  for (const { hostname, checks_by_kind: kinds } of hosts) {
    const { access = 0, ...others } = kinds;
    // Two of the three hosts have an access address; nobody asks for the own one.
    assertEquals(access, hostname === "gamma" ? 2 : 1, hostname);
    assertEquals(others, {
      gateway: 3,
      intrawire: 2,
      "oversize-access": 2,
      "oversize-intrawire": 2,
      "tcp-access": 2,
      "tcp-intrawire": 2,
      name: 4,
      world: 1,
      key: 3,
      tree: 3,
      path: 4,
      clock: 1,
      ssh: 1,
    }, hostname);
  }
});

proof("verify --junit: lines for a pipe, and a file for other programs", async (lab, program) => {
  const file = `${lab.directory}/junit.xml`;
  const result = await mobula(lab, { executable: program }, "verify", "--junit", file, "--wait", "30");
  expectCode(result, 0, "verify");
  assertMatch(result.stdout, /^alpha -> gamma: ok [\d.]+ ms$/m);
  assertMatch(result.stdout, /^mode: WireGuard in /m);
  const xml = await Deno.readTextFile(file);
  assertMatch(xml, /<testsuites name="mobula verify" tests="\d{2,}" failures="0"/);
});

proof(
  "verify: nothing listens when it is over, even if the deployer dies in the middle",
  async (lab, program) => {
    const listeners = async () => {
      const lines: string[] = [];
      for (const name of NAMES) {
        for (const namespace of [undefined, "mobula"]) {
          const said = await ask(lab, name, ["ss", "-Hltn", "sport = :6255"], namespace);
          lines.push(...said.split("\n").filter((line) => line !== "").map((line) => `${name}: ${line}`));
        }
      }
      return lines;
    };
    await waitFor("no listener", async () => (await listeners()).length === 0);
    const args = [program, "verify", `${lab.directory}/hosts.yml`, "--ssh-config", lab.sshConfig];
    const verifying = await start(lab.deployer.enter(args), {
      cgroup: lab.state.cgroup,
      log: `${lab.directory}/killed.log`,
    });
    let most: string[] = [];
    try {
      await waitFor("the listeners", async () => (most = await listeners()).length > 0, {
        deadlineMs: 60_000,
        intervalMs: 20,
      });
    } finally {
      killProcess(verifying);
    }
    for (const line of most) assertMatch(line, / 10\.3[01]\.0\.[234]:6255 /);
    await waitFor("no listener after the kill", async () => (await listeners()).length === 0, {
      deadlineMs: 60_000,
    });
  },
);

proof("verify: a pair whose underlay is cut both ways", async (lab, program) => {
  const causes = await judgeWith(lab, program, {
    break: async () => {
      await drop(lab, "alpha", wireguardFrom(lab, "beta"));
      await drop(lab, "beta", wireguardFrom(lab, "alpha"));
    },
    mend: () => healed(lab, "alpha", "beta"),
    wait: 30,
  });
  only(causes, ["alpha", "beta"], /^the underlay between alpha and beta is broken both ways/);
});

proof("verify: a pair whose underlay is cut one way", async (lab, program) => {
  const causes = await judgeWith(lab, program, {
    break: () => drop(lab, "gamma", wireguardFrom(lab, "beta")),
    mend: () => healed(lab, "gamma"),
    wait: 30,
  });
  only(
    causes,
    ["beta", "gamma"],
    /one way only: nothing that beta sends arrives at gamma, but beta hears gamma/,
  );
});

proof("verify: a path that loses what is larger than 1000 bytes, with the size", async (lab, program) => {
  const large = (host: string) => `${wireguardFrom(lab, host)} meta length > 1000`;
  const causes = await judgeWith(lab, program, {
    break: async () => {
      await drop(lab, "alpha", large("beta"));
      await drop(lab, "beta", large("alpha"));
    },
    mend: () => healed(lab, "alpha", "beta"),
  });
  const [, size = "", underlay = ""] =
    /^only packets of up to (\d+) bytes pass between alpha and beta on the intrawire; expected 1440\. MTU on the path: .* more than about (\d+) bytes$/
      .exec(causes[0]?.message ?? "") ?? [];
  assertEquals(causes.length, 1, JSON.stringify(causes));
  // WireGuard pads to multiples of 16 bytes and adds 60 of its own: 928 + 60 is the last that fits.
  assertEquals([size, underlay], ["928", "988"], causes[0]?.message);
});

proof("verify: a host whose WireGuard uses another key than it should", async (lab, program) => {
  const setKey =
    "umask 077; wg genkey >/run/fault.key; wg set mo-wg-gw private-key /run/fault.key; rm /run/fault.key";
  const causes = await judgeWith(lab, program, {
    break: () => ask(lab, "beta", ["sh", "-eu", "-c", setKey], "mobula"),
    mend: () => ask(lab, "beta", ["/opt/mobula/bin/mobula", "up"]),
  });
  only(
    causes,
    ["beta"],
    /^beta uses the key .{8}…, but alpha, gamma have .{8}… for it, and wireguard_pubkeys\.yml has .{8}…/,
  );
});

proof(
  "verify: names, the world, the tree, a firewall and an MTU at once, each told apart",
  async (lab, program) => {
    const harm:
      readonly (readonly [host: string, namespace: string | undefined, script: string, mend: string])[] = [
        ["gamma", undefined, "systemctl stop mobula-dnsmasq", "systemctl start mobula-dnsmasq"],
        ["alpha", "mobula", "ip route del default", `ip route add default via ${ROUTER}`],
        ["alpha", undefined, "ip link set veth_fac0 mtu 1500", "ip link set veth_fac0 mtu 1386"],
        [
          "beta",
          undefined,
          "ovs-vsctl --db=unix:/run/mobula/ovs/db.sock del-port ovsbr-mobula mo-t-4",
          "/opt/mobula/bin/mobula up",
        ],
        [
          "beta",
          undefined,
          "nft 'table inet fault { chain input { type filter hook input priority 0; tcp dport 6255 drop; }; }'",
          "nft delete table inet fault",
        ],
      ];
    const shell = (host: string, namespace: string | undefined, script: string) =>
      ask(lab, host, ["sh", "-eu", "-c", script], namespace);
    const causes = await judgeWith(lab, program, {
      break: async () => {
        for (const [host, namespace, script] of harm) await shell(host, namespace, script);
      },
      mend: async () => {
        for (const [host, namespace, , script] of harm) await shell(host, namespace, script);
      },
    });
    const all = causes.map(({ message }) => message).join("\n");
    for (
      const wanted of [
        /^names at gamma: its gateway answers no question: dnsmasq is down/m,
        /^alpha has no way to the world: the gateway has no default route/m,
        /^a packet of 1387 bytes from alpha to beta, gamma on the access network (passes|is lost)/m,
        /^the tree \(RSTP\) at beta, towards gamma: it has no port there/m,
        /^nobody gets a TCP connection to beta on the intrawire \(no connection within 3 s\)/m,
      ]
    ) assertMatch(all, wanted);
    assertEquals(causes.length, 5, all);
  },
);

proof(
  "verify: a host whose SSH is gone is asked for by the others, and all is well afterwards",
  async (lab, program) => {
    const causes = await judgeWith(lab, program, {
      break: () => ask(lab, "gamma", ["systemctl", "stop", "ssh.service"]),
      mend: () => ask(lab, "gamma", ["systemctl", "start", "ssh.service"]),
    });
    const all = causes.map(({ message }) => message).join("\n");
    assertMatch(
      all,
      /^gamma: Cannot connect .*; other hosts reach it inside, so the way to its SSH server is broken/m,
    );
    assert(causes.every(({ hosts }) => hosts.includes("gamma")), all);
    await judge(lab, program, 0, 60);
  },
);
