/**
 * Looks at a host before anything is there: one POSIX shell script, one round trip, no change. Effects: through the connection
 * it is given; the script's text and the parser are pure.
 */
import { HostError } from "../errors.ts";
import type { HostFacts, HostStateFile } from "../facts.ts";
import { parseServices, SERVICES_SCRIPT } from "../net/services.ts";
import { HOST_EXECUTABLE } from "./host_call.ts";
import type { SshRunner } from "./ssh.ts";

/**
 * The script. It prints lines `key=value`, and sections `[name]` whose lines are indented by one space, so that no line of a
 * file or a command can be taken for a key. Its one argument is the port on which this SSH session arrived (sudo drops it).
 */
export const LOOK_SCRIPT = `LC_ALL=C; export LC_ALL
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"; export PATH
say() { printf '%s=%s\\n' "$1" "$2"; }
section() { printf '[%s]\\n' "$1"; sed 's/^/ /'; }
have() { command -v "$1" >/dev/null 2>&1; }
state=/opt/mobula/state.json
say mobula-look 1
say clock "$(date +%s)"
say uid "$(id -u)"
say architecture "$(uname -m)"
say kernel "$(uname -r)"
say hostname "$(cat /proc/sys/kernel/hostname 2>/dev/null || uname -n)"
say ssh-port "$1"
if [ -d /run/systemd/system ]; then say systemd yes; else say systemd no; fi
dir=/opt; [ -d "$dir" ] || dir=/
say free-kib "$(df -Pk "$dir" 2>/dev/null | awk 'NR == 2 { print $4 }')"
cat /etc/os-release 2>/dev/null | section os-release
if [ -f ${HOST_EXECUTABLE} ] && [ -x ${HOST_EXECUTABLE} ]; then
  # Hashed once in each boot, as long as inode, size and times stay.
  memory=/run/mobula/executable; known=; hash=
  id=$(stat -c '%i %s %y %z' ${HOST_EXECUTABLE} 2>/dev/null)
  if [ -f $memory ]; then { read -r known; read -r hash; } <$memory; fi
  if [ -z "$id" ] || [ "$known" != "$id" ] || [ "\${#hash}" != 64 ]; then
    hash=$(sha256sum ${HOST_EXECUTABLE} 2>/dev/null); hash=\${hash%% *}
    if [ "$id" ] && [ -d /run/mobula ]; then { printf '%s\\n%s\\n' "$id" "$hash" >$memory; } 2>/dev/null; fi
  fi
  say executable "$hash"
fi
gateway=no
if [ -f "$state" ]; then section state <"$state"; fi
if [ -f /opt/mobula/baseline.json ]; then say recorded-services "$(grep -c '"services"' /opt/mobula/baseline.json)"; fi
# Also after an installation that was cut off: what counts is where the external address is.
if have ip && ip -n mobula -4 -o addr show dev mo-ext-gw 2>/dev/null | grep -q inet; then gateway=yes; fi
if have ip; then
  say ip yes
  # The admin's bridge of virtual machines, if veth_fac0 is in one.
  bridge=$(readlink /sys/class/net/veth_fac0/master 2>/dev/null)
  say access-bridge "\${bridge##*/}"
  ip -4 -o addr show | section addresses
  ip -4 route show | section routes
  if [ "$gateway" = yes ]; then
    ip -n mobula -4 -o addr show dev mo-ext-gw 2>/dev/null | section gateway-addresses
    default=$(ip -n mobula -4 route show default 2>/dev/null | head -n 1)
    link=$(ip -n mobula -o link show dev mo-ext-gw 2>/dev/null)
  else
    default=$(ip -4 route show default | head -n 1)
    dev=$(printf '%s\\n' "$default" | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')
    link=
    [ -n "$dev" ] && link=$(ip -o link show dev "$dev" 2>/dev/null)
  fi
  say default-route "$default"
  say external-link "$link"
else
  say ip no
fi
# 51820 is CA6C; a kernel's WireGuard has no process.
if cat /proc/net/udp /proc/net/udp6 2>/dev/null | awk '$2 ~ /:CA6C$/ { found = 1 } END { exit !found }'; then
  user=
  have ss && user=$(ss -Hlunp 'sport = :51820' 2>/dev/null | sed -n 's/.*users:((\\("[^"]*",pid=[0-9]*\\).*/\\1/p' | head -n 1)
  say udp-51820 "\${user:-the kernel or an unknown process}"
fi
modules=/lib/modules/$(uname -r)
can() { [ -e "/sys/module/$1" ] || grep -qs "/$1\\.ko" "$modules/modules.dep" "$modules/modules.builtin"; }
# A kernel without a folder of modules has it built in, if at all.
symbol() { grep -qsw "$1" /proc/kallsyms; }
# Whether it can really not be used, tried in a namespace that ends with the trial. Where nothing can be tried, a container's kernel
# may still bring it as soon as it is asked for.
fails() {
  if have "$1" && have unshare && unshare -n true; then ! unshare -n "$@"; else [ ! -e /run/systemd/container ]; fi </dev/null >/dev/null 2>&1
}
missing=
for name in wireguard openvswitch geneve; do can "$name" || missing="$missing $name"; done
can nf_tables || symbol nf_tables_newtable || ! fails nft list tables || missing="$missing nf_tables"
# Linux before 5.1 has it under another name.
can nft_chain_nat || can nft_chain_nat_ipv4 || symbol nft_nat_do_chain ||
  ! fails nft 'add table ip t; add chain ip t c { type nat hook postrouting priority 100; }' || missing="$missing nft_chain_nat"
can veth || symbol veth_newlink || ! fails ip link add mo-probe type veth || missing="$missing veth"
can bridge || symbol br_dev_setup || ! fails ip link add mo-probe type bridge || missing="$missing bridge"
if [ -n "$missing" ]; then
  say missing-modules "$missing"
  say kernels "$(ls /lib/modules 2>/dev/null | tr '\\n' ' ')"
  if [ -e /dev/net/tun ] || can tun; then say tun yes; fi
  if have wireguard-go; then say wireguard-go yes; fi
  if [ -e /run/systemd/container ]; then say container yes; fi
fi
have ss && ss -Hltn "sport = :$1" 2>/dev/null | section ssh-listeners
{ ${SERVICES_SCRIPT}; } | section services
say mobula-look-end 1
`;

/** What the script printed, not yet understood. */
interface Answer {
  readonly values: ReadonlyMap<string, string>;
  readonly sections: ReadonlyMap<string, readonly string[]>;
}

/** Runs the script on a host and reads its answer; errors begin with the host's name. */
export async function look(host: string, ssh: SshRunner): Promise<HostFacts> {
  const sudo = ssh.become ? ["sudo", "-n", "--"] : [];
  const start = ["sh", "-c", 'exec "$@" sh -s "${SSH_CONNECTION##* }"', "sh", ...sudo];
  const { stdout, stderr, code } = await ssh.exec(start, { stdin: LOOK_SCRIPT, become: false });
  if (!stdout.includes("mobula-look-end=1")) {
    throw new HostError(explainFailure(host, code, stderr, ssh.become));
  }
  return parseLook(stdout);
}

function explainFailure(host: string, code: number, stderr: string, become: boolean): string {
  const said = stderr.trim().split("\n").at(-1) ?? "";
  if (become && /sudo/.test(stderr)) {
    return `${host}: Cannot become root: ${said}; expected sudo without a password. ` +
      "Give the user NOPASSWD in sudoers, or log in as root (ansible_user: root)";
  }
  return `${host}: Cannot look at host: "sh -s" ended with ${code}${
    said ? ` (${said})` : ""
  }; expected a POSIX shell`;
}

/** The script's output → facts. */
export function parseLook(output: string): HostFacts {
  const { values, sections } = splitAnswer(output);
  const os = parseOsRelease(sections.get("os-release") ?? []);
  const route = parseDefaultRoute(values.get("default-route") ?? "");
  const mtu = values.get("external-link")?.match(/ mtu (\d+)/)?.[1];
  const bridge = values.get("access-bridge");
  const addresses = [...sections.get("addresses") ?? [], ...sections.get("gateway-addresses") ?? []]
    .flatMap(parseAddress);
  const external = {
    interface: route.externalInterface,
    addresses: addresses.filter((one) => one.interface === route.externalInterface).map(({ address }) =>
      address
    ),
  };
  return {
    osId: os.get("ID") ?? "",
    osIdLike: (os.get("ID_LIKE") ?? "").split(/\s+/).filter((word) => word !== ""),
    osVersion: os.get("VERSION_ID") ?? "",
    osName: os.get("PRETTY_NAME") ?? os.get("NAME") ?? "an unknown system",
    architecture: values.get("architecture") ?? "",
    kernel: values.get("kernel") ?? "",
    systemd: values.get("systemd") === "yes",
    root: values.get("uid") === "0",
    hostname: values.get("hostname") ?? "",
    freeMiB: Math.floor(Number(values.get("free-kib") || "0") / 1024),
    sshPort: Number(values.get("ssh-port") || "22"),
    sshListeners: (sections.get("ssh-listeners") ?? []).flatMap((line) =>
      line.trim().split(/\s+/).slice(3, 4)
    ),
    ...route,
    ...(mtu ? { externalMtu: Number(mtu) } : {}),
    addresses,
    ...(bridge ? { accessBridge: bridge } : {}),
    routes: (sections.get("routes") ?? []).filter((line) => !bridge || !line.includes(` dev ${bridge} `))
      .flatMap(parseRoute),
    ...(values.get("executable") ? { executableHash: values.get("executable")! } : {}),
    ...parseState(sections.get("state")),
    clock: Number(values.get("clock") || "0"),
    wireguardPortUser: values.get("udp-51820") ?? "",
    ...parseLacks(values),
    services: parseServices(sections.get("services") ?? [], external),
    ...(values.get("recorded-services") === "0" ? { servicesUnrecorded: true } : {}),
  };
}

function parseLacks(values: Answer["values"]): Pick<HostFacts, "lacks"> {
  const words = (key: string) => (values.get(key) ?? "").split(/\s+/).filter((word) => word !== "");
  const modules = words("missing-modules");
  if (modules.length === 0) return {};
  const isThere = (key: string) => values.get(key) === "yes";
  return {
    lacks: {
      modules,
      kernels: words("kernels"),
      container: isThere("container"),
      tun: isThere("tun"),
      wireguardGo: isThere("wireguard-go"),
    },
  };
}

function splitAnswer(output: string): Answer {
  const values = new Map<string, string>();
  const sections = new Map<string, string[]>();
  let lines: string[] = [];
  // What a login script prints comes before the script's own first line.
  const start = output.search(/^mobula-look=1$/m);
  for (const line of output.slice(Math.max(0, start)).split("\n")) {
    const [, section] = line.match(/^\[([a-z-]+)\]$/) ?? [];
    const [, key, value] = line.match(/^([a-z0-9-]+)=(.*)$/) ?? [];
    if (section) sections.set(section, lines = []);
    else if (line.startsWith(" ")) lines.push(line.slice(1));
    else if (key) values.set(key, value!.trim());
  }
  return { values, sections };
}

/** `/etc/os-release`: shell assignments, the values quoted or not. */
function parseOsRelease(lines: readonly string[]): Map<string, string> {
  return new Map(lines.flatMap((line) => {
    const [, key, value] = line.match(/^([A-Z_]+)=(.*)$/) ?? [];
    return key ? [[key, value!.trim().replace(/^(["'])(.*)\1$/, "$2").replace(/\\([\\"'$`])/g, "$1")]] : [];
  }));
}

/** `default via 192.0.2.1 dev eth0 proto dhcp …` → interface and gateway. */
function parseDefaultRoute(line: string): { externalInterface?: string; defaultGateway?: string } {
  const device = line.match(/ dev (\S+)/)?.[1];
  const via = line.match(/ via (\S+)/)?.[1];
  return { ...(device ? { externalInterface: device } : {}), ...(via ? { defaultGateway: via } : {}) };
}

/** `2: eth0    inet 192.0.2.7/24 brd … scope global eth0\ …` → interface and address; `eth0@if3` loses its tail. */
function parseAddress(line: string): { interface: string; address: string }[] {
  const [, link, address] = line.match(/^\d+: (\S+?)(?:@\S+)?\s+inet (\S+)/) ?? [];
  if (!link || !address) return [];
  return [{ interface: link, address: address.includes("/") ? address : `${address}/32` }];
}

/** `10.0.0.0/8 via … dev …` → its destination and, if it is one of ours, nothing. */
function parseRoute(line: string): string[] {
  const [first = "", second = ""] = line.trim().split(/\s+/);
  const destination = /^(unreachable|blackhole|prohibit|broadcast|local|multicast)$/.test(first)
    ? second
    : first;
  if (destination === "" || OUR_LINKS.test(line)) return [];
  return [destination === "default" || destination.includes("/") ? destination : `${destination}/32`];
}

const OUR_LINKS = / dev (veth_\S+|mo-\S+|ovsbr-mobula)/;

function parseState(lines: readonly string[] | undefined): { state?: HostStateFile } {
  if (!lines) return {};
  try {
    const state = JSON.parse(lines.join("\n"));
    if (state?.schema === 1 && (state.status === "installing" || state.status === "installed")) {
      return { state };
    }
  } catch {
    // Half a file is what an interrupted installation may leave: reported as such below.
  }
  return {
    state: { schema: 1, status: "installing", phase: "unknown", since: "an unknown time", generation: 0 },
  };
}
