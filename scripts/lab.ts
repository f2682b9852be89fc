/**
 * `deno task lab`: makes, enters and removes labs by hand. Needs root.
 */
import { Command } from "@commander-js/extra-typings";
import { writeInventory } from "../tests/lab/inventory.ts";
import { down, type HostKind, type HostOptions, type Lab, openLab, up } from "../tests/lab/lab.ts";
import { ensurePackages, MACHINE_PACKAGES } from "../tests/lab/packages.ts";
import { labNames } from "../tests/lab/state.ts";
import { VM_PACKAGES } from "../tests/vm/qemu.ts";

/** The lab that commands mean when none is named. */
export const DEFAULT_LAB = "lab";

/** `NAME=ADDRESS[,bookworm|trixie|bullseye][,bare|prepared][,container|machine]` → a host. */
export function parseHost(text: string): HostOptions {
  const match =
    /^([a-z0-9-]+)=(198\.51\.100\.\d{1,3})(?:,(bullseye|bookworm|trixie))?(?:,(bare|prepared))?(?:,(container|machine))?$/
      .exec(text);
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new Error(
      `Cannot read the host "${text}"; expected ${HOST_SHAPE}`,
    );
  }
  return {
    name: match[1],
    address: match[2],
    suite: match[3] as HostOptions["suite"],
    image: match[4] as HostOptions["image"],
    ...(match[5] === undefined ? {} : { kind: match[5] as HostKind }),
  };
}

const HOST_SHAPE = "NAME=198.51.100.N[,bookworm|trixie|bullseye][,bare|prepared][,container|machine]";

interface UpOptions {
  readonly lab: string;
  readonly hosts?: string;
  readonly kind: HostKind;
}

const NAMES = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"];

function defaultHosts(count: number): string[] {
  if (!Number.isInteger(count) || count < 1 || count > NAMES.length) {
    throw new Error(`Cannot make ${count} hosts; expected 1 to ${NAMES.length}`);
  }
  return NAMES.slice(0, count).map((name, index) =>
    `${name}=198.51.100.${index + 2},${index % 2 === 0 ? "trixie" : "bookworm"},prepared`
  );
}

async function labUp(named: readonly string[], { lab: name, hosts: count, kind }: UpOptions): Promise<void> {
  const began = performance.now();
  const hosts = (named.length === 0 ? defaultHosts(Number(count ?? 3)) : named).map(parseHost);
  const withMachines = hosts.some((host) => (host.kind ?? kind) === "machine");
  await ensurePackages([...MACHINE_PACKAGES, ...(withMachines ? VM_PACKAGES : [])]);
  const lab = await up(name, hosts, kind);
  const inventory = await writeInventory(lab);
  console.log(`lab "${name}" is up after ${((performance.now() - began) / 1000).toFixed(1)} s`);
  for (const host of lab.state.hosts) {
    console.log(`  ${host.name}  ${host.address}  ${host.suite} ${host.image} ${host.kind}`);
  }
  console.log(`inventory: ${inventory}\nssh config: ${lab.sshConfig}`);
}

function labStatus(): void {
  const names = labNames();
  if (names.length === 0) console.log("no lab");
  for (const name of names) {
    const lab = openLab(name);
    console.log(`${name}  ${lab.directory}`);
    for (const host of lab.state.hosts) {
      console.log(
        `  ${host.name}  ${host.address}  ${host.suite} ${host.image} ${host.kind}  ${
          host.process === undefined ? "off" : "on"
        }`,
      );
    }
  }
}

async function labExec(
  place: string,
  argv: readonly string[],
  options: { lab: string; netns?: string },
): Promise<void> {
  const lab = openLab(options.lab);
  const result = await execIn(lab, place, argv.length === 0 ? ["bash"] : argv, options.netns);
  Deno.exitCode = result.code;
}

function execIn(lab: Lab, place: string, argv: readonly string[], namespace?: string) {
  if (place === "world") return lab.world.exec(argv, { inherit: true });
  if (place === "deployer") return lab.deployer.exec(argv, { inherit: true });
  return lab.exec(place, argv, { inherit: true, namespace });
}

async function labSsh(host: string, argv: readonly string[], { lab: name }: { lab: string }): Promise<void> {
  const lab = openLab(name);
  const result = await lab.deployer.exec(["ssh", "-F", lab.sshConfig, lab.host(host).address, ...argv], {
    inherit: true,
  });
  Deno.exitCode = result.code;
}

/** What a task calls itself and makes. */
interface LabTask {
  readonly name: string;
  readonly description: string;
  /** The lab that its commands mean when none is named. */
  readonly lab: string;
  readonly kind: HostKind;
}

/** The verbs, the same for every kind of host. */
export function labProgram(task: LabTask): Command {
  const LAB_OPTION = ["-l, --lab <name>", "name of the lab", task.lab] as const;
  const lab = new Command(task.name).enablePositionalOptions().description(task.description);
  lab.command("up").argument("[hosts...]", `${HOST_SHAPE}; default: see --hosts`)
    .option(...LAB_OPTION).option("--hosts <n>", "so many hosts, trixie and bookworm by turns (default: 3)")
    .description("make a lab and its inventory")
    .action((hosts, options) => labUp(hosts, { ...options, kind: task.kind }));
  lab.command("down").argument("[name]", "the lab", task.lab).option("--all", "every lab")
    .description("remove a lab and every trace of it").action(async (name, { all }) => {
      for (const one of all ? labNames() : [name]) await down(one);
    });
  lab.command("status").description("list labs and their hosts").action(labStatus);
  lab.command("exec").argument("<place>", "a host, world or deployer").argument("[argv...]")
    .option(...LAB_OPTION).option("-n, --netns <name>", "a namespace of the host").passThroughOptions()
    .description("run a command there; default: bash").action(labExec);
  lab.command("ssh").argument("<host>").argument("[argv...]").option(...LAB_OPTION).passThroughOptions()
    .description("log in to a host from the deployer").action(labSsh);
  return lab;
}

/** Obeys the command line. */
export async function runLabTask(task: LabTask): Promise<void> {
  try {
    await labProgram(task).parseAsync(Deno.args, { from: "user" });
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    Deno.exit(1);
  }
}

if (import.meta.main) {
  await runLabTask({
    name: "lab",
    description: "systemd containers on an Internet of their own, on this machine",
    lab: DEFAULT_LAB,
    kind: "container",
  });
}
