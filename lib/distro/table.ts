/**
 * The one table of distributions: which are installed, how, and which are refused with what reason. Pure.
 */

/** The package manager of a row. */
export type PackageManager = "apt" | "dnf" | "yum" | "zypper" | "pacman";

/** A need of mobula's and the package that fills it. */
export interface PackageNames {
  readonly openvswitch: string;
  readonly wireguardTools: string;
  /** Missing where the distribution has none. */
  readonly wireguardGo?: string;
  readonly nftables: string;
  readonly dnsmasq: string;
  readonly iproute: string;
  readonly ping: string;
  readonly ethtool: string;
  readonly kmod: string;
}

/** One row: a distribution, a range of its versions, and what an installer must know. */
export interface Distro {
  /** `ID` of /etc/os-release. */
  readonly id: string;
  /** What people call it. */
  readonly name: string;
  /** First and last major.minor version of the row, both included; missing is open-ended. */
  readonly from?: string;
  readonly to?: string;
  readonly manager: PackageManager;
  readonly packages: PackageNames;
  /** Units that the packages bring, to be masked before they are installed. */
  readonly unitsToMask: readonly string[];
  readonly kernel: KernelPackages;
}

/** What brings kernel modules. */
export interface KernelPackages {
  /** Releases (`uname -r`) for which there is a package of all modules. */
  readonly releases: RegExp;
  /** What to do with that package; `%k` is the release. */
  readonly modules: string;
  /** The distribution's kernel that has them all. */
  readonly image: string;
}

/** What the table says of a host's system. */
export type DistroAnswer =
  | { readonly distro: Distro }
  | { readonly refused: string };

/** Units of Open vSwitch under all the names distributions give them; masking one that is not there is harmless. */
const OPENVSWITCH_UNITS = [
  "openvswitch-switch.service",
  "openvswitch.service",
  "ovsdb-server.service",
  "ovsdb-server.socket",
  "ovs-vswitchd.service",
  "ovs-record-hostname.service",
] as const;

const APT_PACKAGES: PackageNames = {
  openvswitch: "openvswitch-switch",
  wireguardTools: "wireguard-tools",
  wireguardGo: "wireguard-go",
  nftables: "nftables",
  // Not "dnsmasq": that one starts a daemon on port 53.
  dnsmasq: "dnsmasq-base",
  iproute: "iproute2",
  ping: "iputils-ping",
  ethtool: "ethtool",
  kmod: "kmod",
};

/** Debian 11 and Ubuntu before 22.04 have no wireguard-go. */
const APT_PACKAGES_KERNEL_ONLY: PackageNames = { ...APT_PACKAGES, wireguardGo: undefined };

/** The modules are part of the kernel's own package. */
const DEBIAN_KERNEL: KernelPackages = {
  releases: /-amd64$/,
  modules: "Reinstall linux-image-%k",
  image: "linux-image-amd64",
};

/** The flavour for virtual machines, kvm, has no further modules. */
const UBUNTU_KERNEL: KernelPackages = {
  releases: /^\d+\.\d+\.\d+-\d+-(?!kvm$)[a-z][a-z0-9-]*$/,
  modules: "Install linux-modules-extra-%k",
  image: "linux-image-generic",
};

const APT = { manager: "apt", unitsToMask: OPENVSWITCH_UNITS } as const;
const DEBIAN = { ...APT, id: "debian", name: "Debian", kernel: DEBIAN_KERNEL } as const;
const UBUNTU = { ...APT, id: "ubuntu", name: "Ubuntu", kernel: UBUNTU_KERNEL } as const;

const ROWS: readonly Distro[] = [
  { ...DEBIAN, from: "11", to: "11", packages: APT_PACKAGES_KERNEL_ONLY },
  { ...DEBIAN, from: "12", to: "13", packages: APT_PACKAGES },
  { ...UBUNTU, from: "20.04", to: "21.10", packages: APT_PACKAGES_KERNEL_ONLY },
  { ...UBUNTU, from: "22.04", packages: APT_PACKAGES },
];

const SUPPORTED = "expected Debian 11 to 13, or Ubuntu 20.04 or newer";

/** Systems whose family looks right and that still cannot work, with the reason. */
const REFUSED: Readonly<Record<string, string>> = {
  alpine: "Alpine has no systemd",
  devuan: "Devuan has no systemd",
  amzn: "Amazon Linux has no package of Open vSwitch",
};

/** Finds the row for an `ID`, its `ID_LIKE` words and a `VERSION_ID`, or says why there is none. */
export function findDistro(osId: string, osIdLike: readonly string[], osVersion: string): DistroAnswer {
  const reason = Object.hasOwn(REFUSED, osId) ? REFUSED[osId] : undefined;
  if (reason) return { refused: `${reason}; ${SUPPORTED}` };
  const rows = ROWS.filter((row) => row.id === osId);
  if (rows.length === 0) return { refused: unknownSystem(osId, osIdLike, osVersion) };
  const distro = rows.find((row) => inRange(osVersion, row));
  if (distro) return { distro };
  return {
    refused: `${rows[0]!.name} ${osVersion || "without a version number (a rolling release)"}; ${SUPPORTED}`,
  };
}

function unknownSystem(osId: string, osIdLike: readonly string[], osVersion: string): string {
  const system = `${osId || "a system without /etc/os-release"} ${osVersion}`.trim();
  const like = osIdLike.length > 0 ? ` (like ${osIdLike.join(", ")})` : "";
  return `${system}${like} is not in the table of distributions; ${SUPPORTED}`;
}

function inRange(version: string, { from, to }: Distro): boolean {
  if (version === "") return false;
  return (from === undefined || compareVersions(version, from) >= 0) &&
    (to === undefined || compareVersions(version, to) <= 0);
}

/** Compares part by part as numbers, as far as the bound goes: 11.9 is within "to 11". */
function compareVersions(version: string, bound: string): number {
  const parts = version.split(".").map(Number);
  for (const [index, part] of bound.split(".").map(Number).entries()) {
    const difference = (parts[index] ?? 0) - part;
    if (difference !== 0) return Number.isNaN(difference) ? -1 : difference;
  }
  return 0;
}
