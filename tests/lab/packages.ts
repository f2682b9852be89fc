/**
 * The Debian packages that the machine under the lab needs. Runs `dpkg-query` and, only when something is missing, `apt-get`.
 */
import { must, run } from "./process.ts";

/** What a fresh Debian 12 lacks for building images, booting containers and playing the Internet. */
export const MACHINE_PACKAGES: readonly string[] = [
  "dnsmasq-base",
  "fping",
  "iproute2",
  "iputils-ping",
  "mmdebstrap",
  "nftables",
  "nmap",
  "openssh-client",
  "socat",
  "systemd-container",
  "tcpdump",
  "wireguard-go",
  "wireguard-tools",
];

/** Those of the packages that are not installed. */
export async function missingPackages(packages: readonly string[]): Promise<string[]> {
  const result = await run(["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\\n", ...packages]);
  const installed = new Set(
    result.stdout.split("\n").filter((line) => line.endsWith(" installed")).map((line) => line.split(" ")[0]),
  );
  return packages.filter((name) => !installed.has(name));
}

/** Installs what is missing; returns the names. Needs root. */
export async function ensurePackages(packages: readonly string[] = MACHINE_PACKAGES): Promise<string[]> {
  requireRoot();
  const missing = await missingPackages(packages);
  if (missing.length === 0) return [];
  const env = { ...Deno.env.toObject(), DEBIAN_FRONTEND: "noninteractive" };
  await must(["apt-get", "-q", "update"], { env });
  await must(["apt-get", "-q", "-y", "--no-install-recommends", "install", ...missing], { env });
  return missing;
}

/** The lab makes namespaces and mounts. */
export function requireRoot(): void {
  if (Deno.uid() !== 0) {
    throw new Error(
      `Cannot run the lab: user id ${Deno.uid()}; expected root, e.g. with "sudo" in front of the command`,
    );
  }
}
