/**
 * Services of the hosts themselves, asked for at the external addresses from outside: reachable before, during and after an
 * installation where that was wanted, named beforehand where not. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import { pumpLines } from "../../lib/deploy/lines.ts";
import { executable as makeExecutable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { Lab, Place } from "./lab.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { strangerIn } from "./scans.ts";
import { ask, snapshot } from "./snapshot.ts";
import { waitFor } from "./wait.ts";
import { TRIO } from "./trio.ts";

/** What is forwarded by name, what is preserved, and what nobody has thought of. */
const SERVICES = ["443/tcp", "7000/tcp", "53/udp"];

/** Says to whoever asks who it is that asks; over TCP then repeats every line. */
const SERVICE = `#!/bin/sh
port=\${1%-*}
case $1 in
*-tcp) exec socat "TCP-LISTEN:$port,fork,reuseaddr" 'SYSTEM:echo $SOCAT_PEERADDR; exec cat' ;;
*-udp) exec socat "UDP-RECVFROM:$port,fork" 'SYSTEM:read -r word; echo $SOCAT_PEERADDR' ;;
esac
`;
const UNIT = `[Service]
ExecStart=/usr/local/bin/lab-service %i
[Install]
WantedBy=multi-user.target
`;

const STRANGER = "198.51.100.200";

interface Before {
  /** The program. */
  readonly executable: string;
  readonly stranger: Place;
}

const { proof } = setStage<Before>({ name: "forward", hosts: TRIO, prepare });

async function prepare(lab: Lab): Promise<Before> {
  const program = await makeExecutable("compiled");
  for (const { name } of TRIO) await startServices(lab, name);
  await writeForwards(lab, ["8443:443/tcp", "7000", "53/udp"]);
  return { executable: program, stranger: await strangerIn(lab) };
}

async function writeForwards(lab: Lab, forward: readonly unknown[]): Promise<void> {
  await writeInventory(lab, { hostVars: { alpha: { forward }, beta: { preserve_services: true } } });
}

async function startServices(lab: Lab, host: string): Promise<void> {
  const write = 'cat >"$1"; chmod "$2" "$1"';
  const files = [["/usr/local/bin/lab-service", "755", SERVICE], [
    "/etc/systemd/system/lab-service@.service",
    "644",
    UNIT,
  ]];
  for (const [path = "", mode = "", stdin = ""] of files) {
    expectCode(await lab.exec(host, ["sh", "-euc", write, "sh", path, mode], { stdin }), 0, path);
  }
  const units = SERVICES.map((service) => `lab-service@${service.replace("/", "-")}.service`);
  await ask(lab, host, ["systemctl", "enable", "--quiet", "--now", ...units]);
}

/** As whom a service sees who asks from this place; the empty text where nothing answers. Exactly the one that was asked counts. */
async function seenAs(place: Pick<Place, "exec">, address: string, port: string): Promise<string> {
  const [number, protocol] = port.split("/");
  const target = protocol === "udp"
    ? `UDP:${address}:${number}`
    : `TCP:${address}:${number},connect-timeout=3`;
  const { stdout } = await place.exec(["socat", "-t", "2", "-", target], { stdin: "question\n" });
  return stdout.split("\n")[0] ?? "";
}

/** What answers a stranger at a host's external address, and as whom it sees him. */
async function reachable(lab: Lab, stranger: Place, host: string, ports: readonly string[]) {
  const { address } = lab.host(host);
  const answers = await Promise.all(ports.map((port) => seenAs(stranger, address, port)));
  return Object.fromEntries(ports.map((port, index) => [port, answers[index]]));
}

const ALL_PORTS = [...SERVICES, "8443/tcp"];

/** Each of these ports with the stranger's own address, every other one without an answer. */
function openTo(...open: readonly string[]): Record<string, string> {
  return Object.fromEntries(ALL_PORTS.map((port) => [port, open.includes(port) ? STRANGER : ""]));
}

async function expectOpen(lab: Lab, stranger: Place, host: string, ...open: readonly string[]) {
  assertEquals(await reachable(lab, stranger, host, ALL_PORTS), openTo(...open), host);
}

async function expectAsBefore(lab: Lab, stranger: Place): Promise<void> {
  for (const { name } of TRIO) {
    await waitFor(`the services of ${name}`, () => seenAs(stranger, lab.host(name).address, "443/tcp"));
    await expectOpen(lab, stranger, name, ...SERVICES);
  }
}

/** A TCP connection that goes on. */
class Held {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  /** All that was heard. */
  readonly #lines: string[] = [];
  readonly #heard: Promise<void>;

  constructor(place: Place, address: string, port: number) {
    const [command = "", ...args] = place.enter(["socat", "-", `TCP:${address}:${port}`]);
    this.#child = new Deno.Command(command, { args, stdin: "piped", stdout: "piped" }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#heard = pumpLines(this.#child.stdout, (line) => this.#lines.push(line));
  }

  /** Waits for a line. */
  async hears(line: string): Promise<void> {
    await waitFor(`"${line}" in ${this.#lines}`, () => this.#lines.includes(line), { deadlineMs: 10_000 });
  }

  /** Says a line and waits until it comes back. */
  async repeats(line: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${line}\n`));
    await this.hears(line);
  }

  async end(): Promise<void> {
    await this.#writer.close();
    this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#heard;
  }
}

proof(
  "before: every service answers a stranger; plan and its JSON name what would not",
  async (lab, before) => {
    await expectAsBefore(lab, before.stranger);
    const plan = await mobula(lab, before, "plan");
    expectCode(plan, 4, "plan");
    const line =
      'socat on 53/udp, socat on 443/tcp, socat on 7000/tcp; to keep it write "forward: ["53/udp", 443, 7000]"';
    assert(plan.stdout.includes(`nobody outside will reach ${line}`), plan.stdout);
    const json = await mobula(lab, before, "plan", "--json");
    const hosts: { hostname: string; unreachable_services: unknown[] }[] = JSON.parse(json.stdout).hosts;
    assertEquals(hosts.map(({ hostname, unreachable_services }) => [hostname, unreachable_services.length]), [
      ["alpha", 0],
      ["beta", 0],
      ["gamma", 3],
    ]);
    assertEquals(hosts[2]!.unreachable_services[1], {
      protocol: "tcp",
      port: 443,
      program: "socat",
      reach: "all",
    });
  },
);

proof(
  "push: what is forwarded or preserved answers, and sees who asks; nothing else does",
  async (lab, before) => {
    const pushed = await mobula(lab, before, "push", "--no-reboot");
    expectCode(pushed, 0, "push");
    assertMatch(pushed.stdout, /gamma \(id 4\).*\n.*note: nobody outside will reach socat on 53\/udp, /);
    // Once as it is found, once in the report.
    assertEquals(pushed.stdout.match(/nobody outside will reach/g)?.length, 2, pushed.stdout);
    await expectOpen(lab, before.stranger, "alpha", "8443/tcp", "7000/tcp", "53/udp");
    await expectOpen(lab, before.stranger, "beta", ...SERVICES);
    await expectOpen(lab, before.stranger, "gamma");
  },
);

proof(
  "push: other hosts reach it too, and UDP answers the access network from where it was asked",
  async (lab) => {
    const { address, id } = lab.host("alpha");
    const beta = lab.network("beta");
    for (const port of ["8443/tcp", "53/udp"]) {
      assertEquals(await seenAs(beta, address, port), lab.host("beta").address, port);
    }
    const { access, intrawire } = hostAddresses(id);
    const asked = hostAddresses(lab.host("beta").id);
    assertEquals(await seenAs(beta, access, "53/udp"), asked.access);
    assertEquals(await seenAs(beta, intrawire, "53/udp"), asked.intrawire);
  },
);

proof("forward changes: an update under which nothing moves and connections live on", async (lab, before) => {
  const { address } = lab.host("alpha");
  const held = new Held(before.stranger, address, 7000);
  try {
    await held.hears(STRANGER);
    await held.repeats("before");
    const links = (await snapshot(lab, "alpha")).links;
    await writeForwards(lab, [443, "7000"]);
    const plan = await mobula(lab, before, "plan");
    expectCode(plan, 4, "plan");
    assertMatch(plan.stdout, /nobody outside will reach socat on 53\/udp, socat on 443\/tcp any more/);
    const pushed = await mobula(lab, before, "push", "--json");
    expectCode(pushed, 0, "push");
    const report = JSON.parse(pushed.stdout);
    assertEquals(report.hosts[0].steps.filter((title: string) => /mo-ext-gw|host0|start/.test(title)), []);
    assertEquals(report.hosts.slice(1).map(({ steps }: { steps: unknown[] }) => steps), [[], []]);
    assertEquals((await snapshot(lab, "alpha")).links, links);
    await held.repeats("after");
  } finally {
    await held.end();
  }
  await expectOpen(lab, before.stranger, "alpha", "443/tcp", "7000/tcp");
  assertEquals((await ask(lab, "alpha", ["ip", "rule"])).includes("sport"), false);
  expectCode(await mobula(lab, before, "plan"), 0, "the plan after the push");
});

proof("a reboot brings the forwards back", async (lab, before) => {
  await writeForwards(lab, [443, "5300:53/udp"]);
  expectCode(await mobula(lab, before, "push"), 0, "push");
  await lab.reboot("alpha");
  await waitFor("the services of alpha", () => seenAs(before.stranger, lab.host("alpha").address, "443/tcp"));
  assertEquals(await seenAs(before.stranger, lab.host("alpha").address, "5300/udp"), STRANGER);
});

proof("uninstall: every service answers as before", async (lab, before) => {
  expectCode(await mobula(lab, before, "uninstall"), 0, "uninstall");
  await expectAsBefore(lab, before.stranger);
  for (const { name } of TRIO) {
    assertEquals((await ask(lab, name, ["ip", "rule"])).match(/100\d\d:/g), null, name);
  }
});
