/**
 * `deno task lab`: makes, enters and removes labs by hand. Needs root.
 */
import { Command } from "@commander-js/extra-typings";
import { writeInventory } from "../tests/lab/inventory.ts";
import { down, type HostOptions, type Lab, openLab, up } from "../tests/lab/lab.ts";
import { ensurePackages } from "../tests/lab/packages.ts";
import { labNames } from "../tests/lab/state.ts";

/** The lab that commands mean when none is named. */
export const DEFAULT_LAB = "lab";

/** `NAME=ADDRESS[,bookworm|trixie|bullseye][,bare|prepared]` → a host. */
export function parseHost(text: string): HostOptions {
  const match = /^([a-z0-9-]+)=(198\.51\.100\.\d{1,3})(?:,(bullseye|bookworm|trixie))?(?:,(bare|prepared))?$/
    .exec(text);
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new Error(
      `Cannot read the host "${text}"; expected NAME=198.51.100.N[,bookworm|trixie|bullseye][,bare|prepared]`,
    );
  }
  return {
    name: match[1],
    address: match[2],
    suite: match[3] as HostOptions["suite"],
    image: match[4] as HostOptions["image"],
  };
}

/** What `lab up` makes when it is told nothing. */
export const DEFAULT_HOSTS: readonly string[] = [
  "alpha=198.51.100.2,trixie,prepared",
  "beta=198.51.100.3,bookworm,prepared",
  "gamma=198.51.100.4,trixie,prepared",
];

async function labUp(hosts: readonly string[], { lab: name }: { lab: string }): Promise<void> {
  const began = performance.now();
  await ensurePackages();
  const lab = await up(name, (hosts.length === 0 ? DEFAULT_HOSTS : hosts).map(parseHost));
  const inventory = await writeInventory(lab);
  console.log(`lab "${name}" is up after ${((performance.now() - began) / 1000).toFixed(1)} s`);
  for (const host of lab.state.hosts) {
    console.log(`  ${host.name}  ${host.address}  ${host.suite} ${host.image}`);
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
        `  ${host.name}  ${host.address}  ${host.suite} ${host.image}  ${
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

const LAB_OPTION = ["-l, --lab <name>", "name of the lab", DEFAULT_LAB] as const;

function program(): Command {
  const lab = new Command("lab").enablePositionalOptions().description(
    "systemd containers on an Internet of their own, on this machine",
  );
  lab.command("up").argument("[hosts...]", "NAME=198.51.100.N[,suite][,bare|prepared]; default: three hosts")
    .option(...LAB_OPTION).description("make a lab and its inventory").action(labUp);
  lab.command("down").argument("[name]", "the lab", DEFAULT_LAB).option("--all", "every lab")
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

if (import.meta.main) {
  try {
    await program().parseAsync(Deno.args, { from: "user" });
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    Deno.exit(1);
  }
}
