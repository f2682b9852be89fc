import { assertEquals } from "@std/assert";
import { look, LOOK_SCRIPT, parseLook } from "../../lib/deploy/look.ts";
import { FILE_IDENTITY, HASH_FILE } from "../../lib/host/paths.ts";
import { CAN_RUN_SSHD, Sshd } from "./sshd.ts";

function captured(name: string) {
  return parseLook(Deno.readTextFileSync(new URL(`look/${name}.txt`, import.meta.url)));
}

const LO = { interface: "lo", address: "127.0.0.1/8" };

Deno.test("parseLook: a bare Debian 12", () => {
  assertEquals(captured("debian12"), {
    osId: "debian",
    osIdLike: [],
    osVersion: "12",
    osName: "Debian GNU/Linux 12 (bookworm)",
    architecture: "x86_64",
    kernel: "6.1.0-50-amd64",
    systemd: true,
    root: true,
    hostname: "web2",
    freeMiB: 77813,
    sshPort: 22,
    sshListeners: [],
    externalInterface: "ens3",
    externalMtu: 1500,
    defaultGateway: "198.51.100.1",
    addresses: [LO, { interface: "ens3", address: "198.51.100.2/24" }],
    routes: ["default", "198.51.100.0/24"],
    clock: 1795353921,
    wireguardPortUser: "",
    services: [],
  });
});

Deno.test("parseLook: systems, versions and interfaces of other distributions", () => {
  const seen = ["debian11", "debian13", "ubuntu22", "ubuntu24_nat", "alpine", "centos7"].map((name) => {
    const { osId, osIdLike, osVersion, externalInterface, externalMtu, systemd, sshPort } = captured(name);
    return [osId, osIdLike.join(" "), osVersion, externalInterface, externalMtu, systemd, sshPort];
  });
  assertEquals(seen, [
    ["debian", "", "11", "eth0", 1500, true, 22],
    ["debian", "", "13", "ens3", 1450, true, 22],
    ["ubuntu", "debian", "22.04", "enp1s0", 1500, true, 2222],
    ["ubuntu", "debian", "24.04", "ens5", 9001, true, 22],
    ["alpine", "", "3.20.3", "eth0", 1500, false, 22],
    ["centos", "rhel fedora", "7", "eth0", 1500, true, 22],
  ]);
});

Deno.test("parseLook: what a login script prints before is no answer", () => {
  const { clock, osId } = captured("ubuntu24_nat");
  assertEquals([clock, osId], [1795353921, "ubuntu"]);
});

Deno.test("parseLook: where sshd listens", () => {
  assertEquals(captured("ubuntu22").sshListeners, ["198.51.100.5:2222", "[::1]:2222"]);
});

Deno.test("parseLook: routes to single addresses get their prefix", () => {
  assertEquals(captured("ubuntu22").routes, [
    "default",
    "172.17.0.0/16",
    "198.51.100.0/24",
    "198.51.100.1/32",
  ]);
});

Deno.test("parseLook: an installed host has its external address in the gateway, and our own routes do not count", () => {
  const facts = captured("debian12_installed");
  assertEquals(facts.externalInterface, "mo-ext-gw");
  assertEquals(facts.addresses.at(-1), { interface: "mo-ext-gw", address: "198.51.100.2/24" });
  assertEquals(facts.addresses[3]?.interface, "veth_eth0");
  assertEquals(facts.routes, []);
  assertEquals(facts.state?.generation, 3);
  assertEquals(facts.executableHash?.length, 64);
});

Deno.test("parseLook: half a state file counts as an interrupted installation", () => {
  const facts = captured("debian12_bare");
  assertEquals(facts.state, {
    schema: 1,
    status: "installing",
    phase: "unknown",
    since: "an unknown time",
    generation: 0,
  });
  assertEquals([facts.root, facts.externalInterface, facts.freeMiB], [false, undefined, 200]);
  assertEquals(facts.wireguardPortUser, '"wg-quick",pid=812');
});

Deno.test("parseLook: what the kernel lacks, and nothing where it lacks nothing", () => {
  assertEquals(captured("debian13_container").lacks, {
    modules: ["wireguard", "openvswitch", "geneve"],
    kernels: [],
    container: true,
    tun: false,
    wireguardGo: false,
  });
  assertEquals(captured("ubuntu24_minimal").lacks?.kernels, ["6.8.0-45-generic", "6.8.0-51-generic"]);
  assertEquals(captured("debian12").lacks, undefined);
});

Deno.test("LOOK_SCRIPT: every POSIX shell at hand runs it without a complaint", async () => {
  for (const shell of [["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"]]) {
    const found = await new Deno.Command("sh", { args: ["-c", `command -v ${shell[0]}`] }).output();
    if (!found.success) continue;
    const child = new Deno.Command(shell[0]!, {
      args: [...shell.slice(1), "-s", "2022"],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const [{ stdout, stderr }] = await Promise.all([
      child.output(),
      new Blob([LOOK_SCRIPT]).stream().pipeTo(child.stdin),
    ]);
    const facts = parseLook(new TextDecoder().decode(stdout));
    assertEquals(new TextDecoder().decode(stderr), "", shell[0]);
    assertEquals(facts.sshPort, 2022);
    assertEquals(facts.lacks?.modules, await modulesHere(), shell[0]);
  }
});

/** In words of its own: a module counts as there if it is loaded, or `modprobe` would find it, or what it is for works. */
async function modulesHere(): Promise<string[] | undefined> {
  const script = `for name in wireguard openvswitch geneve; do
  [ -e "/sys/module/$name" ] || modprobe -n -q "$name" 2>&- || echo "$name"
done
exec 2>&-
unshare -rn nft add table ip t || echo nf_tables
unshare -rn nft 'table ip t { chain c { type nat hook prerouting priority -100; }; }' || echo nft_chain_nat
unshare -rn ip link add one type veth peer name other || echo veth
unshare -rn ip link add one type bridge || echo bridge`;
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  const names = new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "");
  return names.length > 0 ? names : undefined;
}

/** Runs the script where a kernel and its folder of modules are what these files say; returns the modules that it misses. */
async function missingWith(files: Readonly<Record<string, string>>, trials: string): Promise<string[]> {
  const root = await Deno.makeTempDir({ prefix: "mobula-look-" });
  try {
    for (const [path, text] of Object.entries({ ...files, "bin/unshare": `#!/bin/sh\n${trials}\n` })) {
      await Deno.mkdir(`${root}/${path.slice(0, path.lastIndexOf("/"))}`, { recursive: true });
      await Deno.writeTextFile(`${root}/${path}`, text, { mode: 0o755 });
    }
    const script = LOOK_SCRIPT.replace('PATH="$PATH:', `PATH="${root}/bin:$PATH:`)
      .replaceAll("/lib/modules/$kernel", `${root}/modules`)
      .replaceAll(/\/(sys\/module|proc\/kallsyms|run\/systemd\/container)/g, `${root}/$1`);
    const child = new Deno.Command("sh", { args: ["-s"], stdin: "piped", stdout: "piped" }).spawn();
    const [{ stdout }] = await Promise.all([
      child.output(),
      new Blob([script]).stream().pipeTo(child.stdin),
    ]);
    return [...parseLook(new TextDecoder().decode(stdout)).lacks?.modules ?? []];
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const USERSPACE_CAN = ["wireguard", "openvswitch", "geneve"];
const NO_PROGRAM_CAN = ["nf_tables", "nft_chain_nat", "veth", "bridge"];
/** `unshare -n true` is asked first. */
const NOTHING_WORKS = '[ "$2" = true ]';
const CANNOT_TRY = "exit 1";

Deno.test("LOOK_SCRIPT: a module is there if it is loaded, in the kernel, loadable, or if what it is for works", async () => {
  const all = [...USERSPACE_CAN, ...NO_PROGRAM_CAN];
  const folder = (name: string) =>
    all.map((module) => `kernel/net/${module}.ko${name === "modules.dep" ? ".xz:" : ""}\n`).join("");
  const loaded = Object.fromEntries(all.map((module) => [`sys/module/${module}/refcnt`, "1\n"]));
  const symbols = ["nf_tables_newtable", "nft_nat_do_chain", "veth_newlink", "br_dev_setup"]
    .map((name) => `0000000000000000 t ${name}\n`).join("");
  const container = { "run/systemd/container": "lxc" };
  const old = folder("modules.dep").replace("nft_chain_nat", "nft_chain_nat_ipv4");
  assertEquals(
    {
      loaded: await missingWith(loaded, NOTHING_WORKS),
      loadable: await missingWith({ "modules/modules.dep": folder("modules.dep") }, NOTHING_WORKS),
      oldLoadable: await missingWith({ "modules/modules.dep": old }, NOTHING_WORKS),
      builtIn: await missingWith({ "modules/modules.builtin": folder("modules.builtin") }, NOTHING_WORKS),
      symbols: await missingWith({ "proc/kallsyms": symbols }, NOTHING_WORKS),
      otherSymbols: await missingWith({ "proc/kallsyms": symbols.replaceAll("\n", "_x\n") }, NOTHING_WORKS),
      nothing: await missingWith({}, NOTHING_WORKS),
      works: await missingWith({}, "exit 0"),
      nothingTried: await missingWith({}, CANNOT_TRY),
      container: await missingWith(container, NOTHING_WORKS),
      containerWorks: await missingWith(container, "exit 0"),
      containerNothingTried: await missingWith(container, CANNOT_TRY),
    },
    {
      loaded: [],
      loadable: [],
      oldLoadable: [],
      builtIn: [],
      symbols: USERSPACE_CAN,
      otherSymbols: all,
      nothing: all,
      works: USERSPACE_CAN,
      nothingTried: all,
      container: all,
      containerWorks: USERSPACE_CAN,
      containerNothingTried: USERSPACE_CAN,
    },
  );
});

Deno.test({
  name:
    "look: the hash that a push has left holds until the executable changes, even with the same size and time",
  ignore: !CAN_RUN_SSHD,
  fn: async () => {
    const sshd = await Sshd.start();
    try {
      const ssh = sshd.runner();
      await ssh.connect();
      const file = "/opt/mobula/bin/mobula";
      const write = (text: string) => `echo ${text} >${file}; chmod 755 ${file}; touch -d 2026-01-02 ${file}`;
      const hashOf = async () => (await look("web1", ssh)).executableHash;
      const expected = async () => (await sshd.inside(`sha256sum ${file}`)).split(" ")[0];
      const remember = (hash: string) =>
        sshd.inside(`(stat -c "${FILE_IDENTITY}" ${file}; echo ${hash}) >${HASH_FILE}`);
      await sshd.inside(`mkdir -p /opt/mobula/bin /run/mobula; ${write("one")}`);
      assertEquals(await hashOf(), await expected());
      // A hash that nothing here has shows that it is taken from the file.
      await remember("5".repeat(64));
      assertEquals(await hashOf(), "5".repeat(64));
      await sshd.inside(write("two"));
      assertEquals(await hashOf(), await expected());
      await sshd.inside(`echo half >${HASH_FILE}`);
      assertEquals(await hashOf(), await expected());
    } finally {
      await sshd.stop();
    }
  },
});
