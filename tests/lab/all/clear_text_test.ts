/**
 * Nothing of the inner networks is ever on the underlay in clear, whatever happens to the hosts; and nothing at all of ours after the
 * end. Needs root and the lab's packages.
 */
import { assert, assertEquals } from "@std/assert";
import { hostAddresses } from "../../../lib/address.ts";
import { type Capture, capture, type Frame, sendFrame } from "../capture.ts";
import { clearText, MARKER_HEX, restOfOurs } from "../clear_text.ts";
import { executable } from "../executables.ts";
import { writeInventory } from "../inventory.ts";
import type { Lab } from "../lab.ts";
import { allInnerAddresses, waitForAnswers } from "../probes.ts";
import { isAlive, type ProcessRecord, start } from "../process.ts";
import { expectCode, mobula, setStage } from "../proof.ts";
import { ask, mainPids } from "../snapshot.ts";
import { BRIDGE, DEPLOYER, WORLD } from "../underlay.ts";
import { waitFor } from "../wait.ts";
import { TRIO } from "../trio.ts";

interface Prepared {
  readonly program: string;
  capture: Capture;
  /** Pings that go on, by the host they come from. */
  readonly probes: Map<string, ProcessRecord[]>;
}

const { proof } = setStage<Prepared>({ name: "clear-text", hosts: TRIO, prepare });

async function prepare(lab: Lab): Promise<Prepared> {
  const program = await executable("compiled");
  await writeInventory(lab);
  return { program, capture: await captureUnderlay(lab), probes: new Map() };
}

/** All that any two of the underlay say to each other but SSH, which is of no use to a listener. */
async function captureUnderlay(lab: Lab): Promise<Capture> {
  return await capture(lab, lab.world, BRIDGE, "not tcp port 22");
}

/** From each of the hosts to all addresses of the others, until they are stopped. */
async function startProbes(
  { state, network, directory }: Lab,
  { probes }: Prepared,
  names: readonly string[],
) {
  for (const name of names) {
    const others = state.hosts.filter((host) => host.name !== name);
    const addresses = others.flatMap(({ id }) => {
      const { access, intrawire } = hostAddresses(id);
      return [access, intrawire];
    });
    const options = { cgroup: state.cgroup, log: `${directory}/probes.log` };
    const pings = addresses.map((address) =>
      start(
        network(name).enter(["ping", "-n", "-q", "-i", "0.1", "-s", "64", "-p", MARKER_HEX, address]),
        options,
      )
    );
    probes.set(name, await Promise.all(pings));
  }
}

async function stopProbes({ probes }: Prepared, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const processes = probes.get(name) ?? [];
    for (const process of processes) if (isAlive(process)) Deno.kill(process.pid, "SIGKILL");
    await waitFor(`the probes of ${name} to end`, () => !processes.some(isAlive), { intervalMs: 20 });
    probes.delete(name);
  }
}

/** The frames that are not as they should be, each kind once, with the number of those. */
function tally(frames: readonly Frame[], look: (frame: Frame) => string[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const word of frames.flatMap(look)) found[word] = (found[word] ?? 0) + 1;
  return found;
}

function expectNoClearText(frames: readonly Frame[]): void {
  assertEquals(tally(frames, clearText), {});
}

async function push(lab: Lab, { program }: Prepared, ...args: readonly string[]): Promise<void> {
  expectCode(await mobula(lab, { executable: program }, "push", ...args), 0, `push ${args.join(" ")}`);
}

async function expectOneNetwork(lab: Lab): Promise<void> {
  const all = allInnerAddresses(lab.state.hosts);
  for (const { name } of lab.state.hosts) {
    await waitForAnswers(`the network of ${name}`, () => lab.network(name), all, 30_000);
  }
}

proof("clear text would be found", async (lab, prepared) => {
  const seen = await captureUnderlay(lab);
  await lab.deployer.exec(["ping", "-n", "-c", "1", "-p", MARKER_HEX, WORLD]);
  const send = (address: string, port: number) =>
    lab.deployer.exec(["socat", "-u", "STDIN", `UDP:${address}:${port}`], { stdin: "geneve" });
  await send(WORLD, 6254);
  await send(WORLD, 6081);
  await send("10.31.128.2", 4444);
  await send("10.30.0.2", 4444);
  const inner = new Uint8Array([2, 0x6d, 0x6f, 0, 3, 7, ...new TextEncoder().encode("frame")]);
  await sendFrame(lab.deployer, "eth0", {
    to: "ff:ff:ff:ff:ff:ff",
    from: "02:00:00:00:00:0a",
    type: 0x88b5,
    payload: inner,
  });
  await waitFor("the last frame", () => seen.frames().some(({ type }) => type === 0x88b5));
  const found = Object.keys(tally(await seen.stop(), clearText));
  for (
    const expected of [
      `the probe's payload (${DEPLOYER} > ${WORLD})`,
      `UDP port 6254 (${DEPLOYER} > ${WORLD})`,
      `UDP port 6081 (${DEPLOYER} > ${WORLD})`,
      `the addresses ${DEPLOYER} > 10.31.128.2`,
      `the addresses ${DEPLOYER} > 10.30.0.2`,
      "an inner MAC address ()",
    ]
  ) assert(found.includes(expected), `${expected} is not among ${Deno.inspect(found)}`);
  // What was put there on purpose is not held against the hosts.
  await prepared.capture.stop();
  prepared.capture = await captureUnderlay(lab);
});

proof("no clear text while hosts are installed, updated, and given new keys", async (lab, prepared) => {
  await push(lab, prepared, "--limit", "alpha,gamma");
  await startProbes(lab, prepared, ["alpha", "gamma"]);
  await push(lab, prepared);
  await startProbes(lab, prepared, ["beta"]);
  await writeInventory(lab, { extraHosts: { "10.31.200.1": "printer.example" }, vars: { mobula_mtu: 1400 } });
  await push(lab, prepared);
  await writeInventory(lab, { vars: { mobula_keys: "rotate", mobula_mtu: 1400 } });
  await push(lab, prepared);
  await writeInventory(lab, { vars: { mobula_mtu: 1400 } });
  const frames = prepared.capture.frames();
  const encrypted = frames.filter((frame) => restOfOurs(frame).length > 0).length;
  assert(encrypted > 100, `only ${encrypted} encrypted packets were captured of ${frames.length}`);
  expectNoClearText(frames);
});

proof("no clear text while daemons are killed", async (lab, prepared) => {
  for (const { name } of lab.state.hosts) {
    const { vswitchd, wireguard } = await mainPids(lab, name);
    for (const pid of [wireguard, vswitchd].filter((pid) => pid > 0)) {
      await ask(lab, name, ["kill", "-9", String(pid)]);
      await expectOneNetwork(lab);
    }
  }
  expectNoClearText(prepared.capture.frames());
});

proof("no clear text at a reboot, a power cut, and on the way back", async (lab, prepared) => {
  await stopProbes(prepared, ["beta"]);
  await lab.reboot("beta");
  await expectOneNetwork(lab);
  await lab.kill("beta");
  await lab.start("beta");
  await expectOneNetwork(lab);
  await startProbes(lab, prepared, ["beta"]);
  const back = await mobula(lab, { executable: prepared.program }, "rollback");
  expectCode(back, 0, "rollback");
  await push(lab, prepared);
  await expectOneNetwork(lab);
  expectNoClearText(prepared.capture.frames());
});

/** A neighbour's packet as good as any: it shows that the capture goes on. */
async function sayHello({ deployer }: Pick<Lab, "deployer">, count: number): Promise<void> {
  const said = await deployer.exec(["ping", "-n", "-q", "-i", "0.05", "-c", String(count), WORLD]);
  expectCode(said, 0, "the ping of a neighbour");
}

proof("after an uninstallation there is no packet of ours", async (lab, prepared) => {
  await stopProbes(prepared, ["alpha", "beta", "gamma"]);
  expectCode(await mobula(lab, { executable: prepared.program }, "uninstall"), 0, "uninstall");
  expectNoClearText(await prepared.capture.stop());
  const after = await captureUnderlay(lab);
  await sayHello(lab, 200);
  await waitFor("the neighbour's packets", () => after.frames().length > 200);
  assertEquals(tally(await after.stop(), restOfOurs), {});
});
