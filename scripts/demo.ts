/**
 * `deno task demo`: from nothing to a working network of three hosts on this machine. Needs root; installs Debian packages, makes
 * `dist/mobula` and a lab, which stays until `deno task lab down`.
 */
import { fromFileUrl } from "@std/path";
import { hostAddresses } from "../lib/address.ts";
import { ensureImage } from "../tests/lab/images.ts";
import { writeInventory } from "../tests/lab/inventory.ts";
import { down, type Lab, type LabHost, up } from "../tests/lab/lab.ts";
import { ensurePackages } from "../tests/lab/packages.ts";
import { must } from "../tests/lab/process.ts";
import { DEPLOYER, WEB_NAME, WORLD } from "../tests/lab/underlay.ts";
import { TRIO } from "../tests/lab/trio.ts";

/** `deno task lab` means this one too when no name is given. */
const LAB = "lab";
const ROOT = fromFileUrl(new URL("..", import.meta.url)).replace(/\/$/, "");
const EXECUTABLE = `${ROOT}/dist/mobula`;

/** As it was started: not everybody has Deno on the PATH. */
const TASK = /[\\/]node_modules[\\/]/.test(Deno.execPath()) ? "npx -y deno@2.9.6 task" : "deno task";

const EXTRA_HOSTS = { "10.31.200.1": "printer.example" };

const began = performance.now();

/** Runs one stage and prints how long it took, and when, since the beginning. */
async function stage<T>(title: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  console.log(`${clock()}  ${title} …`);
  try {
    const result = await work();
    console.log(`${clock()}  ${title}: done in ${seconds(start)} s`);
    return result;
  } catch (error) {
    console.error(`${clock()}  ${title}: failed after ${seconds(start)} s`);
    throw error;
  }
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}

function clock(): string {
  return `[${seconds(began).padStart(5)} s]`;
}

async function installPackages(): Promise<void> {
  const installed = await ensurePackages();
  if (installed.length > 0) console.log(`           installed: ${installed.join(", ")}`);
}

async function compile(): Promise<void> {
  const said = await must([Deno.execPath(), "task", "--quiet", "compile"], { cwd: ROOT });
  for (const line of said.trimEnd().split("\n")) console.log(`           ${line}`);
}

async function makeImages(): Promise<void> {
  const suites = [...new Set(TRIO.map(({ suite = "trixie" }) => suite))];
  await Promise.all(suites.map((suite) => ensureImage(suite, "prepared")));
}

/** A lab of an earlier demo makes room. */
async function bootLab(): Promise<Lab> {
  await down(LAB);
  return await up(LAB, TRIO);
}

/** The three files, with one name and one client more, so that all of them have something to show. */
async function writeFiles(lab: Lab): Promise<string> {
  const pair = JSON.parse(await must([EXECUTABLE, "keys", "generate", "--json"]));
  await Deno.writeTextFile(`${lab.directory}/laptop.key`, `${pair.private_key}\n`, { mode: 0o600 });
  return await writeInventory(lab, {
    extraHosts: EXTRA_HOSTS,
    extraWires: { "10.30.128.1": pair.public_key },
  });
}

/** Runs mobula on the admin's laptop, on this terminal. */
async function mobula(lab: Lab, verb: string, inventory: string): Promise<void> {
  const argv = [EXECUTABLE, verb, inventory, "--ssh-config", lab.sshConfig];
  const { code } = await lab.deployer.exec(argv, { inherit: true });
  if (code !== 0) throw new Error(`Cannot ${verb}: "${argv.join(" ")}" ended with ${code}; expected 0`);
}

const COLUMN = 24;

/** The network as text: the world, the underlay, a column for each host, the access network under them. */
function renderPicture(hosts: readonly LabHost[]): string {
  const width = COLUMN * hosts.length;
  const row = (cell: (host: LabHost) => string) =>
    hosts.map((host) => cell(host).padEnd(COLUMN)).join("").trimEnd();
  const line = (left: string, text: string, right: string) =>
    `${left}${` ${text} `.padEnd(width - 4, left)}${right}`;
  const stem = row(() => "      │");
  return [
    `  world ${WORLD} (DNS, web: ${WEB_NAME})   laptop ${DEPLOYER}`,
    line("═", "underlay 198.51.100.0/24, the Internet of this lab", "═"),
    stem,
    row(({ address }) => ` ┌ ${address}`),
    row(({ name, suite }) => ` │ ${name} (${suite})`),
    row(({ id }) => ` │ gateway   ${hostAddresses(id).gateway}`),
    row(({ id }) => ` │ host      ${hostAddresses(id).access}`),
    row(({ id }) => ` └ intrawire ${hostAddresses(id).intrawire}`),
    stem,
    line("─", "one Ethernet 10.31.0.0/16, host to host by geneve in WireGuard", "─"),
  ].join("\n");
}

function renderNext(inventory: string): string {
  return [
    "Try next:",
    `  ${TASK} lab ssh alpha ping -c 3 beta`,
    "      from one host to another, by name, through the encrypted network",
    `  ${TASK} lab exec -n mobula alpha wg show`,
    "      the gateway of a host from inside: its WireGuard peers",
    `  dist/mobula keys ${inventory}`,
    "      every host with its id and its WireGuard public key",
    "",
    `The lab stays up. "${TASK} lab down" removes every trace of it.`,
  ].join("\n");
}

async function demo(): Promise<void> {
  await stage("Debian packages", installPackages);
  const [lab] = await Promise.all([
    stage("root file systems", makeImages).then(() => stage("boot three hosts and their Internet", bootLab)),
    stage("executable", compile),
  ]);
  const inventory = await stage("hosts.yml, extra_hosts.yml, extra_wires.yml", () => writeFiles(lab));
  await stage("mobula push", () => mobula(lab, "push", inventory));
  console.log(`\n${renderPicture(lab.state.hosts)}\n`);
  await stage("mobula verify", () => mobula(lab, "verify", inventory));
  console.log(`\n${renderNext(inventory)}`);
}

if (import.meta.main) {
  try {
    await demo();
    console.log(`\nDone in ${seconds(began)} s.`);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    console.error(`What has come up of the lab stays for a look; "${TASK} lab down" removes it.`);
    Deno.exit(1);
  }
}
