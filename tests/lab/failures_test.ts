/**
 * What can go wrong with a host: it is named, with its reason and the way out, the others are done, and nothing is lost. One push
 * meets most of it at once. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { allInnerAddresses, unreached } from "./probes.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { must } from "./process.ts";
import { ask } from "./snapshot.ts";
import { waitFor } from "./wait.ts";

/** What is done to a host before the push, how it fails, and how an admin mends it. */
interface Mishap {
  /** The host's name tells what is wrong with it. */
  readonly host: string;
  readonly image?: HostOptions["image"];
  readonly spoil: (lab: Lab, host: string) => Promise<unknown>;
  /** The phase in which it fails, and what is said about it. */
  readonly phase: string;
  readonly message: RegExp;
  /** Missing: it is not mended here. */
  readonly mend?: (lab: Lab, host: string) => Promise<unknown>;
  /** How it is then pushed. */
  readonly reinstall?: boolean;
  /** Settings of the host in the inventory. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** A shell command on the host, past its network. */
function shell(script: string): (lab: Lab, host: string) => Promise<string> {
  return (lab, host) => ask(lab, host, ["sh", "-eu", "-c", script]);
}

const ADD_USER =
  "useradd -m -s /bin/sh joe; mkdir /home/joe/.ssh; cp /root/.ssh/authorized_keys /home/joe/.ssh; chown -R joe: /home/joe";

const MISHAPS: readonly Mishap[] = [
  {
    host: "powerless",
    spoil: (lab, host) => lab.kill(host),
    phase: "connect",
    message:
      /Cannot connect to 198\.51\.100\.10: no (answer in time|route to it); expected .*up|server there/,
    mend: (lab, host) => lab.start(host),
  },
  {
    host: "changed-key",
    spoil: (lab, host) => editKnownHosts(lab, host, () => `${lab.host(host).address} ${OTHER_KEY}`),
    phase: "connect",
    message:
      /its host key has changed; expected the one in .*known_hosts, line \d+\. .*ssh-keygen -R 198\.51\.100\.11/,
  },
  {
    host: "unknown-key",
    spoil: (lab, host) => editKnownHosts(lab, host, () => undefined),
    phase: "connect",
    message: /its host key is not known; expected it in known_hosts\. .*--accept-new-host-keys/,
  },
  {
    host: "no-sshd",
    spoil: shell("systemctl stop ssh.service"),
    phase: "connect",
    message: /connection refused; expected an SSH server there\. Check that sshd runs/,
  },
  {
    host: "no-sudo",
    settings: { ansible_user: "joe", ansible_become: true },
    spoil: shell(ADD_USER),
    phase: "look",
    message: /Cannot become root: .*sudo.*; expected sudo without a password\. .*ansible_user: root/,
  },
  {
    host: "no-root",
    settings: { ansible_user: "joe" },
    spoil: shell(ADD_USER),
    phase: "preflight",
    message: /Cannot install without root: logged in as another user; expected root\. .*ansible_become: true/,
  },
  {
    host: "unknown-os",
    spoil: shell(
      'rm /etc/os-release; printf "ID=plan9\\nPRETTY_NAME=\\"Plan 9\\"\\nVERSION_ID=4\\n" >/etc/os-release',
    ),
    phase: "preflight",
    message:
      /Cannot install on Plan 9: plan9 4 is not in the table of distributions; expected Debian 11 to 13/,
  },
  {
    host: "no-route",
    spoil: shell("ip route del default"),
    phase: "preflight",
    message: /Cannot find the external interface: no IPv4 default route; expected one/,
    mend: shell("ip route add default via 198.51.100.254"),
  },
  {
    host: "half-state",
    spoil: shell('mkdir -p /opt/mobula; printf "{\\"schema\\": 1, \\"sta" >/opt/mobula/state.json'),
    phase: "preflight",
    message: /an earlier installation was interrupted in phase "unknown".*Repair it with --reinstall/,
    mend: () => Promise.resolve(),
    reinstall: true,
  },
  {
    host: "plain-file",
    spoil: shell("rm -rf /opt/mobula; echo mine >/opt/mobula"),
    phase: "copy",
    message:
      /Cannot copy mobula to \/opt\/mobula\/bin\/mobula: .*(Not a directory|File exists|cannot create directory)/,
  },
  {
    host: "full-disk",
    spoil: shell("mkdir -p /opt/mobula; mount -t tmpfs -o size=20m tmpfs /opt/mobula"),
    phase: "copy",
    message:
      /no space left on the disk; expected room for it in \/opt\. Nothing was left behind; make room and push again/,
    mend: shell('test -z "$(find /opt/mobula -type f)"; umount /opt/mobula'),
  },
  {
    host: "no-packages",
    image: "bare",
    spoil: shell(
      "cp /etc/apt/sources.list /root; echo 'deb http://198.51.100.253/gone ./' >/etc/apt/sources.list",
    ),
    phase: "prepare",
    message: /refresh package lists.*(198\.51\.100\.253\/gone|Unable to locate package|404)/s,
    mend: shell("mv /root/sources.list /etc/apt"),
  },
];

const OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

/** Hosts with which nothing is wrong; the second has rubbish where the executable belongs. */
const SOUND: readonly HostOptions[] = [
  { name: "sound", address: "198.51.100.2", suite: "trixie" },
  { name: "rubbish", address: "198.51.100.3", suite: "bookworm" },
];

/** Hosts that lose their power in the middle, and how the push says where it is. */
const CUT: HostOptions = {
  name: "cut-prepare",
  address: "198.51.100.4",
  suite: "bookworm",
  image: "bare",
};

function mishapHost({ host, image }: Mishap, index: number): HostOptions {
  return { name: host, address: `198.51.100.${index + 10}`, suite: index % 2 ? "trixie" : "bookworm", image };
}

interface Pushed {
  readonly program: string;
  readonly code: number;
  readonly said: string;
}

const { proof } = setStage<Pushed>({
  name: "failures",
  hosts: [...SOUND, ...MISHAPS.map(mishapHost)],
  prepare,
});

/** Spoils the hosts, and pushes to all of them at once but those that are to be cut off. */
async function prepare(lab: Lab): Promise<Pushed> {
  const program = await executable("compiled");
  await Promise.all(MISHAPS.map(({ spoil, host }) => spoil(lab, host)));
  await shell("mkdir -p /opt/mobula/bin; echo rubbish >/opt/mobula/bin/mobula")(lab, "rubbish");
  await writeInventory(lab, {
    hosts: [...SOUND.map(({ name }) => name), ...MISHAPS.map(({ host }) => host)],
    hostVars: Object.fromEntries(MISHAPS.map(({ host, settings }) => [host, settings ?? {}])),
  });
  const { code, stdout, stderr } = await mobula(
    lab,
    { executable: program },
    "push",
    "--no-reboot",
    "--verbose",
  );
  return { program, code, said: stdout + stderr };
}

/** Replaces (or, for undefined, takes away) what the deployer knows of a host's key. */
async function editKnownHosts(lab: Lab, host: string, edit: () => string | undefined): Promise<void> {
  const path = `${lab.directory}/known_hosts`;
  const lines = Deno.readTextFileSync(path).trimEnd().split("\n");
  const edited = lines.map((line) => line.startsWith(`${host},`) ? edit() : line).filter((line) =>
    line !== undefined
  );
  Deno.writeTextFileSync(path, `${edited.join("\n")}\n`);
  await Promise.resolve();
}

/** What the report tells of a host that failed; nothing of one that did not. */
function failureOf(lab: Lab, said: string, host: string): { phase: string; told: string } | undefined {
  const { id } = lab.host(host);
  const [, phase, told] =
    new RegExp(`✗ ${host} \\(id ${id}\\) failed in (\\w+):\\n((?: {4}.*\\n)+)`).exec(said) ?? [];
  return phase === undefined || told === undefined ? undefined : { phase, told };
}

proof("push: the sound hosts are done, whatever happens to the others", async (lab, { code, said }) => {
  assertEquals(code, 1, said);
  for (const { name } of SOUND) assertEquals(failureOf(lab, said, name), undefined);
  assertMatch(
    said,
    new RegExp(`^2 of ${SOUND.length + MISHAPS.length} hosts done, ${MISHAPS.length} failed`, "m"),
  );
  for (const { name } of SOUND) assertMatch(said, new RegExp(`✓ ${name} \\(id \\d+\\): installed`));
  const hosts = SOUND.map(({ name }) => lab.host(name));
  for (const { name } of hosts) {
    assertEquals(await unreached(lab.network(name), allInnerAddresses(hosts)), []);
  }
});

for (const { host, phase, message } of MISHAPS) {
  proof(`${host}: named in the report, with reason and way out`, (lab, { said }) => {
    const failure = failureOf(lab, said, host);
    assertEquals(failure?.phase, phase, failure?.told ?? `${host} must be in the report:\n${said}`);
    assertMatch(failure!.told, message);
    return Promise.resolve();
  });
}

const UNTOUCHED = ["changed-key", "unknown-key", "no-sshd", "no-sudo", "no-root", "unknown-os", "no-route"];

proof("hosts that were not let in have not been touched", async (lab) => {
  for (const host of UNTOUCHED) {
    const seen = await lab.exec(host, [
      "sh",
      "-c",
      "ls -A /opt; ls /etc/systemd/system | grep mobula; ip netns list",
    ]);
    assertEquals(seen.stdout, "", host);
  }
  // They are done; the machine under the lab has other things to do.
  await Promise.all(
    UNTOUCHED.filter((host) => host !== "no-sshd" && host !== "no-route").map((host) => lab.kill(host)),
  );
});

proof(
  "push --limit: finishes the hosts that were mended, and all of them reach the others",
  async (lab, { program }) => {
    const mended = MISHAPS.filter(({ mend }) => mend !== undefined);
    await Promise.all(mended.map(({ mend, host }) => mend!(lab, host)));
    const [again, plain] = [true, false].map((wanted) =>
      mended.filter(({ reinstall = false }) => reinstall === wanted).map(({ host }) => host)
    );
    const options = { executable: program };
    for (const args of [[plain!.join(",")], [again!.join(","), "--reinstall"]]) {
      const pushed = await mobula(lab, options, "push", "--no-reboot", "--limit", ...args);
      expectCode(pushed, 0, `push --limit ${args.join(" ")}`);
      assertMatch(pushed.stdout, /note: the hosts that --limit left out do not know its key yet/);
    }
    // The hosts that were done first hear of the new ones' keys at the next push that includes them.
    const hosts = [...SOUND.map(({ name }) => name), ...mended.map(({ host }) => host)];
    const everybody = await mobula(lab, options, "push", "--no-reboot", "--limit", hosts.join(","));
    expectCode(everybody, 0, "push to all sound hosts");
    const labHosts = hosts.map((name) => lab.host(name));
    for (const name of hosts) {
      assertEquals(
        await unreached(lab.network(name), allInnerAddresses(labHosts)),
        [],
        name,
      );
    }
  },
);

proof(
  "power cut in the middle: the next push names the interrupted installation, --reinstall repairs it",
  async (lab, { program }) => {
    const directory = `${lab.directory}/cut`;
    await lab.addHost(CUT);
    await writeInventory(lab, { directory, hosts: [CUT.name] });
    await cutInPackages(lab, program, CUT.name);
    await lab.start(CUT.name);
    const options = { executable: program, directory };
    const next = await mobula(lab, options, "push");
    expectCode(next, 1, "the push after the power cut");
    assertMatch(
      next.stdout,
      new RegExp(
        `✗ ${CUT.name} .* failed in preflight:\\n.*an earlier installation was interrupted in phase .*--reinstall`,
      ),
    );
    expectCode(await mobula(lab, options, "push", "--reinstall"), 0, "push --reinstall");
    expectCode(await mobula(lab, options, "verify"), 0, "verify after the repair");
  },
);

function hasFile(directory: string): boolean {
  return [...Deno.readDirSync(directory)].length > 0;
}

/** Pushes to one host and takes its power away while its packages are installed. */
async function cutInPackages(lab: Lab, program: string, name: string): Promise<void> {
  const log = `${lab.directory}/cut/${name}.log`;
  const push = [program, "push", "--verbose", "--limit", name, "--ssh-config", lab.sshConfig, "hosts.yml"];
  const [command = "", ...args] = lab.deployer.enter(["sh", "-c", 'exec "$@" >"$0" 2>&1', log, ...push]);
  const child = new Deno.Command(command, { args, cwd: `${lab.directory}/cut`, stdin: "null" }).spawn();
  const said = () => Deno.readTextFileSync(log);
  await waitFor("the packages", () => said().includes(`${name}: - install packages`), {
    intervalMs: 10,
    deadlineMs: 60_000,
  });
  // In the midst of the packages, not before the first one.
  const unpacked = `${lab.host(name).directory}/upper/var/lib/dpkg/info`;
  await waitFor("dpkg's first package", () => hasFile(unpacked), { intervalMs: 10 });
  // A machine without power says no goodbye: first the cable.
  await must(["ip", "-n", lab.state.namespace, "link", "delete", `vb-${name}`]);
  await lab.kill(name);
  assertEquals((await child.status).code, 1, said());
  assertMatch(said(), new RegExp(`✗ ${name} .* failed in prepare:\\n.*(connection lost|no answer in time)`));
}

proof(
  "rubbish in hosts.yml: everything wrong at once, exit 2, and no host is even called",
  async (lab, { program }) => {
    const directory = `${lab.directory}/rubbish`;
    await writeInventory(lab, {
      directory,
      hosts: ["sound", "rubbish"],
      hostVars: { sound: { host_id: 32768 }, rubbish: { hostname: "a;$(reboot)" } },
    });
    const calls = () =>
      ask(lab, "sound", [
        "sh",
        "-c",
        "journalctl -q -u ssh.service | grep -c 'Connection from\\|Accepted' || true",
      ]);
    const before = await calls();
    const pushed = await mobula(lab, { executable: program, directory }, "push");
    expectCode(pushed, 2, "the push of rubbish");
    assertMatch(pushed.stderr, /hosts\.yml: all\.hosts\.198\.51\.100\.2\.host_id: found 32768; expected/);
    assertMatch(
      pushed.stderr,
      /hosts\.yml: all\.hosts\.198\.51\.100\.3\.hostname: found "a;\$\(reboot\)"; expected/,
    );
    assertEquals(await calls(), before);
    assert(Number(before) > 0, "the journal must tell of connections at all");
  },
);

proof("no host can be reached: exit 3", async (lab, { program }) => {
  const directory = `${lab.directory}/nobody`;
  await writeInventory(lab, { directory, hosts: ["no-sshd"] });
  expectCode(await mobula(lab, { executable: program, directory }, "push"), 3, "the push to nobody");
});
