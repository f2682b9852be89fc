/**
 * The phases of a push over hosts that are stand-ins: one that vanishes, is silent, says something else or is slow in a phase drops out or
 * not, the others are done, and no host is locked out.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { PUBKEYS_FILE } from "../../lib/commands/load_fleet.ts";
import { parsePubkeys } from "../../lib/config/pubkeys.ts";
import { HostCalls } from "../../lib/deploy/host_calls.ts";
import { type Phase, PHASES, ROLLBACK_PHASES } from "../../lib/deploy/phases.ts";
import { push, type PushResult } from "../../lib/deploy/push.ts";
import type { PushRun } from "../../lib/deploy/run.ts";
import type { HostFacts } from "../../lib/facts.ts";
import { ARMED_FILE, KEYS_FILE } from "../../lib/host/paths.ts";
import type { Progress } from "../../lib/ui/progress.ts";
import { VirtualTime } from "../fake/virtual_time.ts";
import { FakeSsh, type Trouble } from "../fake/ssh.ts";
import { FakeHost, stateOf } from "../fake_host.ts";
import { baselineOf, fleetOf } from "../net/fixtures.ts";

const IDS = [2, 3, 4] as const;
/** The host with which something is wrong. */
const BAD = 3;

/** When the trouble with the bad host begins. */
interface Begin {
  readonly phase: string;
  readonly kind: Trouble;
}

/** How a push differs from a plain one. */
interface PushChanges {
  readonly trouble?: Begin;
  readonly keepKeys?: boolean;
  readonly phases?: readonly Phase[];
}

/** A fleet, and the connections to its hosts. */
interface Bench {
  readonly time: VirtualTime;
  readonly hosts: ReadonlyMap<number, FakeHost>;
  readonly ssh: ReadonlyMap<number, FakeSsh>;
  push(changes?: PushChanges): Promise<PushResult>;
  /** Every push has new names. */
  pushes: number;
}

async function withFleet(use: (bench: Bench) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  const time = new VirtualTime();
  time.install();
  try {
    const fleet = fleetOf(IDS);
    const hosts = new Map(fleet.hosts.map(({ id, address }) => {
      // Each has a card of its own.
      return [id, new FakeHost(time, { baseline: baselineOf(address) })];
    }));
    const ssh = new Map(
      fleet.hosts.map(({ id, address }) => [id, new FakeSsh(hosts.get(id)!, time, address)]),
    );
    const bench: Bench = {
      ...{ time, hosts, ssh, pushes: 0 },
      push: (changes = {}) => pushOver(bench, directory, changes),
    };
    await time.drive(use(bench));
  } finally {
    time.uninstall();
    await Deno.remove(directory, { recursive: true });
  }
}

/** What works on files of this machine takes no time there. */
function pushOver(
  bench: Bench,
  directory: string,
  { trouble, keepKeys = true, phases: all = PHASES }: PushChanges,
): Promise<PushResult> {
  const { time } = bench;
  const names = `printer${++bench.pushes}.example`;
  const fleet = fleetOf(IDS, {
    keepKeys: false,
    extraHosts: [{ address: "10.31.200.1", hostname: names }],
  });
  const load = async (push: PushRun) => {
    push.fleet = fleet;
    push.pubkeys = parsePubkeys(
      PUBKEYS_FILE,
      await Deno.readTextFile(`${directory}/${PUBKEYS_FILE}`).catch(() => ""),
    );
    push.hosts = fleet.hosts.map((host) => {
      const { runner } = bench.ssh.get(host.id)!;
      return { host, ssh: runner, calls: new HostCalls(runner), seconds: new Map(), notes: [] };
    });
    time.busy--;
  };
  const replaced: Readonly<Record<string, Partial<Phase>>> = {
    load: { before: load },
    connect: { before: undefined },
    look: {
      host: (run) => {
        run.facts = factsOf(bench.hosts.get(run.host.id)!, run.host.address);
        return Promise.resolve();
      },
    },
    copy: {
      host: (run) => {
        run.calls.useSession();
        return Promise.resolve();
      },
    },
  };
  const isWaiting = (name: string) => ["activate", "verify", "confirm", "reboot"].includes(name);
  const atOnce = (work: Phase["after"]) =>
    work && (async (push: PushRun) => {
      time.busy++;
      await work(push);
      time.busy--;
    });
  const phases = all.filter(({ name }) => name !== "lock").map((phase): Phase => ({
    ...phase,
    ...(isWaiting(phase.name) || phase.name === "load" ? {} : {
      before: atOnce(phase.before),
      after: atOnce(phase.after),
    }),
    ...replaced[phase.name],
  }));
  time.busy++;
  const options = {
    ...{ hostsPath: `${directory}/hosts.yml`, limit: [], parallel: 20, keepKeys, reinstall: false },
    ...{ reboot: false, acceptNewHostKeys: false },
  };
  return push(options, new Breaking(bench, trouble), phases);
}

/** Says nothing, and lets the trouble begin with its phase. */
class Breaking implements Progress {
  readonly #bench: Bench;
  readonly #trouble: Begin | undefined;

  constructor(bench: Bench, trouble: Begin | undefined) {
    this.#bench = bench;
    this.#trouble = trouble;
  }

  step(): void {}
  note(): void {}
  failed(): void {}
  end(): Promise<void> {
    return Promise.resolve();
  }

  phase({ name }: { readonly name: string }): void {
    if (name === this.#trouble?.phase) this.#bench.ssh.get(BAD)!.break(this.#trouble.kind);
  }
}

function factsOf(host: FakeHost, address: string): HostFacts {
  const state = stateOf(host) as HostFacts["state"];
  return {
    ...{
      osId: "debian",
      osIdLike: [],
      osVersion: "12",
      osName: "Debian GNU/Linux 12",
      architecture: "x86_64",
    },
    ...{ kernel: "6.1.0", systemd: true, root: true, hostname: "", freeMiB: 10_000, sshPort: 22 },
    ...{
      sshListeners: [],
      externalInterface: "enp1s0",
      externalMtu: 1500,
      routes: ["default"],
      services: [],
    },
    defaultGateway: address.replace(/\d+$/, "254"),
    addresses: [{ interface: "enp1s0", address: `${address}/24` }],
    ...(state ? { state } : {}),
    clock: Date.now() / 1000,
    wireguardPortUser: "",
  };
}

function failures({ push }: PushResult): Record<string, string> {
  return Object.fromEntries(
    push.hosts.flatMap(({ host, failure }) => failure ? [[host.hostname, failure.phase]] : []),
  );
}

async function standings({ hosts }: Bench): Promise<string[]> {
  return await Promise.all([...hosts.values()].map((host) => host.standing()));
}

/** When all that was armed has been confirmed or rolled back, every host is where its state file says. */
async function expectSound(bench: Bench, told: string): Promise<void> {
  await bench.time.pause(1_200_000);
  for (const host of bench.hosts.values()) {
    const generation = stateOf(host)?.status === "installed" ? stateOf(host)!.generation : 0;
    const end = generation > 0 ? `generation ${generation}` : "baseline";
    assertEquals([await host.standing(), host.files.has(ARMED_FILE)], [end, false], told);
  }
  bench.ssh.get(BAD)!.trouble = undefined;
}

Deno.test("push: three hosts are installed, and a second push has nothing to confirm but the names", async () => {
  await withFleet(async (bench) => {
    const first = await bench.push();
    assertEquals([failures(first), first.exitCode], [{}, 0]);
    assertEquals(await standings(bench), IDS.map(() => "generation 1"));
    const second = await bench.push();
    assertEquals([failures(second), second.exitCode], [{}, 0]);
    assertEquals(await standings(bench), IDS.map(() => "generation 2"));
  });
});

/** In which phase the host drops out, when it vanishes at the beginning of another one. */
const VANISHES = {
  connect: "connect",
  prepare: "prepare",
  stage: "stage",
  activate: "activate",
  verify: "confirm",
  confirm: "confirm",
} as const;

for (const [phase, dropsOut] of Object.entries(VANISHES)) {
  for (const kind of ["lost", "silent"] as const) {
    for (const installed of [false, true]) {
      const what = installed ? "an update" : "a first installation";
      Deno.test(`push, ${what}: a host that is ${kind} from ${phase} on drops out, the others are done`, async () => {
        await withFleet(async (bench) => {
          if (installed) await bench.push();
          const result = await bench.push({ trouble: { phase, kind } });
          assertEquals([failures(result), result.exitCode], [{ [`host-${BAD}`]: dropsOut }, 1]);
          await expectSound(bench, `${kind} in ${phase}`);
          const done = `generation ${installed ? 2 : 1}`;
          const [first, , last] = await standings(bench);
          assertEquals([first, last], [done, done]);
          const state = stateOf(bench.hosts.get(BAD)!);
          if (state?.status !== "installing") {
            const again = await bench.push();
            assertEquals([failures(again), again.exitCode], [{}, 0], "the push after it");
          }
        });
      });
    }
  }
}

for (const phase of ["prepare", "stage", "activate", "verify", "confirm"] as const) {
  Deno.test(`push: a host that answers garbage from ${phase} on drops out, the others are done`, async () => {
    await withFleet(async (bench) => {
      await bench.push();
      const result = await bench.push({ trouble: { phase, kind: "garbage" } });
      assertEquals(Object.keys(failures(result)), [`host-${BAD}`]);
      assertMatch(
        result.push.hosts.find(({ host }) => host.id === BAD)!.failure!.message,
        /an answer of another shape|no answer|Cannot confirm the installation/,
      );
      assertEquals(result.exitCode, 1);
      await expectSound(bench, `garbage in ${phase}`);
      assertEquals((await bench.push()).exitCode, 0);
    });
  });
}

/** The key that the first host uses by now. */
function keyOfFirst({ hosts }: Bench): string {
  return hosts.get(IDS[0])!.network.wireguard!.publicKey;
}

/** What the bad host says in place of what `prepare` found, and what is said of it. */
const LIES: readonly {
  readonly what: string;
  readonly lie: (bench: Bench) => Readonly<Record<string, unknown>>;
  readonly message: RegExp;
}[] = [
  {
    what: "a key that is none",
    lie: () => ({ publicKey: "not a key\n[Peer]" }),
    message: /expected a WireGuard key/,
  },
  {
    what: "another host's key as its own",
    lie: (bench) => ({ publicKey: keyOfFirst(bench) }),
    message: /it belongs to host host-2/,
  },
  {
    what: "another host's key as the one that it uses",
    lie: (bench) => ({ liveKey: keyOfFirst(bench) }),
    message: /it belongs to host host-2/,
  },
  {
    what: "an MTU that nobody can use",
    lie: () => ({ underlayMtu: 600 }),
    message: /600 bytes.*expected 1400 or more/,
  },
  { what: "an MTU that is none", lie: () => ({ underlayMtu: "1500; reboot" }), message: /underlayMtu/ },
  { what: "something else", lie: () => ({ publicKey: null }), message: /publicKey/ },
];

for (const { what, lie, message } of LIES) {
  Deno.test(`push: a host that claims ${what} drops out by name, the others are done`, async () => {
    await withFleet(async (bench) => {
      assertEquals((await bench.push()).exitCode, 0);
      bench.ssh.get(BAD)!.lie = (verb, result) =>
        verb === "prepare" ? { ...result as Record<string, unknown>, ...lie(bench) } : result;
      const result = await bench.push();
      const { failure } = result.push.hosts.find(({ host }) => host.id === BAD)!;
      assertMatch(failure?.message ?? "no failure", message);
      assertEquals(Object.keys(failures(result)), [`host-${BAD}`]);
      for (const id of IDS) {
        const keys = bench.hosts.get(id)!.json<{ hosts: unknown }>(KEYS_FILE);
        assert(!JSON.stringify(keys ?? {}).includes("not a key"), `host ${id}`);
      }
      delete bench.ssh.get(BAD)!.lie;
      await expectSound(bench, what);
    });
  });
}

Deno.test("push: a host of which each verb takes long is done with the others", async () => {
  await withFleet(async (bench) => {
    const result = await bench.push({ trouble: { phase: "prepare", kind: "slow" } });
    assertEquals([failures(result), result.exitCode], [{}, 0]);
    assertEquals(await standings(bench), IDS.map(() => "generation 1"));
  });
});

Deno.test("push: no host can be reached, exit code 3, and nothing is touched", async () => {
  await withFleet(async (bench) => {
    for (const ssh of bench.ssh.values()) ssh.break("lost");
    const result = await bench.push();
    assertEquals(result.exitCode, 3);
    assertEquals(await standings(bench), IDS.map(() => "baseline"));
    assert([...bench.ssh.values()].every(({ asked }) => asked.length === 0));
  });
});

/** Of each host, that every other one knows the key that it uses. */
function expectKnown({ hosts }: Bench, told: string): void {
  for (const [id, { network }] of hosts) {
    for (const [other, { network: others }] of hosts) {
      const key = network.wireguard!.publicKey;
      if (other !== id) {
        assert(others.wireguard!.peers.has(key), `${told}: ${other} must know the key of ${id}`);
      }
    }
  }
}

function liveKeys({ hosts }: Bench): string[] {
  return [...hosts.values()].map(({ network }) => network.wireguard!.publicKey);
}

Deno.test("push: new keys for all, and nothing is left of the old ones", async () => {
  await withFleet(async (bench) => {
    await bench.push();
    const before = liveKeys(bench);
    const result = await bench.push({ keepKeys: false });
    assertEquals([failures(result), result.exitCode], [{}, 0]);
    assertEquals(liveKeys(bench).filter((key) => before.includes(key)), []);
    expectKnown(bench, "new keys");
    for (const { files, network } of bench.hosts.values()) {
      assertEquals([files.has(KEYS_FILE), network.wireguard!.peers.size], [false, IDS.length - 1]);
    }
  });
});

for (const phase of ["announce", "stage", "activate", "take keys", "verify", "confirm", "forget"]) {
  for (const kind of ["lost", "silent"] as const) {
    Deno.test(`push, new keys: a host that is ${kind} from ${phase} on, every pair still has a key`, async () => {
      await withFleet(async (bench) => {
        await bench.push();
        const result = await bench.push({ trouble: { phase, kind }, keepKeys: false });
        assertEquals(Object.keys(failures(result)), [`host-${BAD}`]);
        expectKnown(bench, "before it rolls back");
        await expectSound(bench, `${kind} in ${phase}`);
        expectKnown(bench, "after it has rolled back");
        const before = liveKeys(bench);
        const again = await bench.push({ keepKeys: false });
        assertEquals([failures(again), again.exitCode], [{}, 0]);
        assertEquals(liveKeys(bench).filter((key) => before.includes(key)), []);
        expectKnown(bench, "completed");
        assertEquals([...bench.hosts.values()].filter(({ files }) => files.has(KEYS_FILE)), []);
      });
    });
  }
}

Deno.test("rollback: all hosts to the generation before; one that is lost stays where it is", async () => {
  await withFleet(async (bench) => {
    await bench.push();
    await bench.push();
    const back = await bench.push({ phases: ROLLBACK_PHASES });
    assertEquals([failures(back), back.exitCode], [{}, 0]);
    assertEquals(await standings(bench), IDS.map(() => "generation 1"));
    await bench.push();
    const trouble = { phase: "activate", kind: "lost" } as const;
    const part = await bench.push({ phases: ROLLBACK_PHASES, trouble });
    assertEquals([failures(part), part.exitCode], [{ [`host-${BAD}`]: "activate" }, 1]);
    await expectSound(bench, "a rollback without one host");
    const [first, bad, last] = await standings(bench);
    assertEquals([first, bad, last], ["generation 1", "generation 2", "generation 1"]);
  });
});
