/**
 * Which packages a host lacks, and the command lines that bring them. Pure.
 */
import type { Step } from "../step.ts";
import type { Distro, PackageNames } from "./table.ts";

/** What decides whether a package is missing. */
export interface PackageNeeds {
  /** Commands found on the host's PATH (with both sbin folders). */
  readonly commands: ReadonlySet<string>;
  /** The kernel has no WireGuard, so the userspace one is needed. */
  readonly wireguardInUserspace: boolean;
}

/** Each need and the commands that prove it is filled. */
const PROOFS: Readonly<Record<keyof PackageNames, readonly string[]>> = {
  openvswitch: ["ovs-vsctl", "ovs-vswitchd", "ovsdb-server", "ovs-ofctl", "ovs-appctl"],
  wireguardTools: ["wg"],
  wireguardGo: ["wireguard-go"],
  nftables: ["nft"],
  dnsmasq: ["dnsmasq"],
  iproute: ["ip"],
  ping: ["ping"],
  ethtool: ["ethtool"],
  kmod: ["modprobe"],
};

/** The commands whose presence `missingPackages` wants to know. */
export const PROVING_COMMANDS: readonly string[] = Object.values(PROOFS).flat();

/** The packages to install, in a fixed order; packages that are there are never touched. */
export function missingPackages(distro: Distro, needs: PackageNeeds): readonly string[] {
  return (Object.keys(PROOFS) as (keyof PackageNames)[])
    .filter((need) => need !== "wireguardGo" || needs.wireguardInUserspace)
    .filter((need) => !PROOFS[need].every((command) => needs.commands.has(command)))
    .map((need) => distro.packages[need] ?? noPackage(distro, need));
}

function noPackage(distro: Distro, need: string): never {
  throw new RangeError(
    `Cannot install ${PROOFS[need as keyof PackageNames].join(", ")}: ${distro.name} ${
      distro.from ?? ""
    } has no ` +
      "package of it; expected a kernel with the wireguard module, or the program put on the PATH by hand",
  );
}

/** Masks the distribution's own units of Open vSwitch: before the package, which would start them. */
export function maskSteps(distro: Distro): readonly Step[] {
  return [{
    title: "mask the distribution's Open vSwitch units",
    argv: ["systemctl", "mask", ...distro.unitsToMask],
    undo: ["systemctl", "unmask", ...distro.unitsToMask],
  }];
}

const APT_ENVIRONMENT = [
  "DEBIAN_FRONTEND=noninteractive",
  "NEEDRESTART_MODE=l",
  "NEEDRESTART_SUSPEND=1",
  "APT_LISTCHANGES_FRONTEND=none",
] as const;

const APT_INSTALL = [
  "apt-get",
  "-y",
  "--no-install-recommends",
  "-o",
  "Dpkg::Options::=--force-confdef",
  "-o",
  "Dpkg::Options::=--force-confold",
  // Cloud images run apt at boot: wait for its lock, in seconds.
  "-o",
  "DPkg::Lock::Timeout=600",
] as const;

/** Refreshes the package lists; its failure is a warning as long as `simulateStep` succeeds. */
export function refreshStep(distro: Distro): Step {
  onlyApt(distro);
  return {
    title: "refresh package lists",
    argv: ["env", ...APT_ENVIRONMENT, "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", "update"],
  };
}

/** Asks whether the packages could be installed, without a change. */
export function simulateStep(distro: Distro, packages: readonly string[]): Step {
  onlyApt(distro);
  return {
    title: `look for packages ${packages.join(" ")}`,
    argv: ["env", ...APT_ENVIRONMENT, ...APT_INSTALL, "-s", "install", ...packages],
  };
}

/** Installs the packages. */
export function installStep(distro: Distro, packages: readonly string[]): Step {
  onlyApt(distro);
  return {
    title: `install packages ${packages.join(" ")}`,
    argv: ["env", ...APT_ENVIRONMENT, ...APT_INSTALL, "install", ...packages],
  };
}

/** `Inst nftables (1.0.6 Debian:12 [amd64])` of a simulated installation → `nftables`; one that is only upgraded has its old version in between. */
export function newPackages(simulated: string): string[] {
  return [...simulated.matchAll(/^Inst ([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9]+)? \(/gm)].map(([, name = ""]) =>
    name
  );
}

/** `Purg nftables [1.0.6]` or `Remv …` of a simulated removal → `nftables`. */
export function removedPackages(simulated: string): string[] {
  return [...simulated.matchAll(/^(?:Purg|Remv) ([a-z0-9][a-z0-9+.-]*)/gm)].map(([, name = ""]) => name);
}

/** Without `--autoremove`: what else is not needed any more is the host's affair. */
const APT_PURGE = ["apt-get", "-y", "-o", "DPkg::Lock::Timeout=120"] as const;

/** Asks which packages would go with these, without a change. */
export function simulateRemovalStep(distro: Distro, packages: readonly string[]): Step {
  onlyApt(distro);
  return {
    title: `look at the removal of ${packages.join(" ")}`,
    argv: ["env", ...APT_ENVIRONMENT, ...APT_PURGE, "-s", "purge", ...packages],
  };
}

/** Removes the packages with their configuration. */
export function removalStep(distro: Distro, packages: readonly string[]): Step {
  onlyApt(distro);
  return {
    title: `remove packages ${packages.join(" ")}`,
    argv: ["env", ...APT_ENVIRONMENT, ...APT_PURGE, "purge", ...packages],
  };
}

/** Brings to an end what a power cut left half installed; the second only where the first does not succeed. */
export function repairSteps(distro: Distro): readonly [Step, Step] {
  onlyApt(distro);
  const dpkg = ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"];
  return [
    { title: "configure half-installed packages", argv: ["env", ...APT_ENVIRONMENT, ...dpkg] },
    {
      title: "complete half-installed packages",
      argv: ["env", ...APT_ENVIRONMENT, ...APT_INSTALL, "--fix-broken", "install"],
    },
  ];
}

function onlyApt({ name, manager }: Distro): void {
  if (manager !== "apt") throw new RangeError(`Cannot install packages on ${name}: ${manager}; expected apt`);
}
