/**
 * Root file systems for lab hosts, and the package repository that the lab's world serves. Runs `mmdebstrap`, `chroot` and `mount`
 * (in a mount namespace of its own); writes below the cache directory only.
 *
 * A cache entry is named by everything that decides its content, is made beside its place and renamed when complete:
 *   bare-<suite>-<hash>/root        a small Debian server: systemd, networkd, sshd
 *   bare-<suite>-<hash>/repository  the packages that lead from bare to prepared, with their index
 *   prepared-<suite>-<hash>/layer   an overlay layer over the bare root with those packages installed
 * A variant (a machine with a kernel) has entries of its own, called `<variant>-bare-…` and `<variant>-prepared-…`.
 */
import { must } from "./process.ts";

/** Debian releases that hosts can be made of. */
export type Suite = "bullseye" | "bookworm" | "trixie";

/**
 * A host as a provider hands it over, one that already has every package that Mobula installs, or one that has also what it is compared
 * with.
 */
export type ImageKind = "bare" | "prepared" | "bench";

/** Where an image lies. */
export interface Image {
  readonly suite: Suite;
  /** Directories for an overlay, the lowest last. */
  readonly layers: readonly string[];
  /** Directory with the packages and their index, to be served as `http://…/<suite>/`. */
  readonly repository: string;
}

/** How an image differs from the plain one. */
export interface ImageVariant {
  /** First word of its entries' names. */
  readonly name: string;
  /** Packages beside those of every image. */
  readonly packages: readonly string[];
  /** Files that lie in the root before its packages are configured. */
  readonly files: readonly ImageFile[];
  /** Further units to mask and to enable. */
  readonly masked: readonly string[];
  readonly enabled: readonly string[];
  /** Lines of sources.list to make the image from; default: what mmdebstrap thinks of for the suite. */
  readonly sources?: readonly string[];
}

/** The world's address, which serves the packages. */
export const REPOSITORY_URL = "http://198.51.100.253";

/** Counted up when images must be made anew although no list and no script below has changed. */
const RECIPE = 1;

const BARE_PACKAGES = [
  "systemd",
  "systemd-sysv",
  "dbus",
  "udev",
  "iproute2",
  "openssh-server",
  "ca-certificates",
  "procps",
];

const PREPARED_PACKAGES = [
  "openvswitch-switch",
  "wireguard-tools",
  "wireguard-go",
  "nftables",
  "dnsmasq-base",
  "iproute2",
  "iputils-ping",
  "ethtool",
  "kmod",
  "tcpdump",
  "socat",
];

/** Other networks to compare with, and the program that measures. */
const BENCH_PACKAGES = ["fastd", "iperf3", "nebula", "tinc", "wireguard-tools"];

/** A file of the image; the path is relative to its root. */
export interface ImageFile {
  readonly path: string;
  readonly text: string;
  readonly executable?: boolean;
}

/** Units without use in a lab host; masking them makes it start faster. */
const MASKED_UNITS = [
  "apt-daily.timer",
  "apt-daily-upgrade.timer",
  "console-getty.service",
  "dpkg-db-backup.timer",
  "e2scrub_all.timer",
  "e2scrub_reap.service",
  "fstrim.timer",
  "getty.target",
  "systemd-firstboot.service",
];

/** The packages' own units of Open vSwitch: they must not start in a prepared host. */
const SWITCH_UNITS = [
  "openvswitch-switch.service",
  "ovs-record-hostname.service",
  "ovs-vswitchd.service",
  "ovsdb-server.service",
];

function imageFiles(suite: Suite): ImageFile[] {
  return [
    { path: "etc/apt/sources.list", text: `deb [trusted=yes] ${REPOSITORY_URL}/${suite}/ ./\n` },
    { path: "etc/apt/apt.conf.d/90lab", text: 'Acquire::Languages "none";\nAcquire::Retries "2";\n' },
    { path: "etc/resolv.conf", text: "nameserver 198.51.100.253\n" },
    { path: "etc/ssh/sshd_config.d/lab.conf", text: "HostKey /etc/ssh/ssh_host_ed25519_key\n" },
    { path: "etc/fstab", text: "" },
  ];
}

const PATH_EXCLUDES = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

function packagesOf(suite: Suite): string[] {
  return PREPARED_PACKAGES.filter((name) => suite !== "bullseye" || name !== "wireguard-go");
}

/** Directory that holds the images: `MOBULA_LAB_CACHE`, else `/var/cache/mobula-lab`. */
export function cacheDirectory(): string {
  return Deno.env.get("MOBULA_LAB_CACHE") ?? "/var/cache/mobula-lab";
}

const PLAIN: ImageVariant = { name: "plain", packages: [], files: [], masked: [], enabled: [] };

/** The variant that holds the other networks too; their services wait to be asked. */
function benchVariant(variant: ImageVariant = PLAIN): ImageVariant {
  return {
    ...variant,
    name: `${variant.name}-bench`,
    packages: [...variant.packages, ...BENCH_PACKAGES],
    masked: [...variant.masked, "tinc.service", "nebula.service", "iperf3.service"],
  };
}

/** Makes the image, or finds it in the cache. */
export async function ensureImage(suite: Suite, kind: ImageKind, variant?: ImageVariant): Promise<Image> {
  if (kind === "bench") return ensureImage(suite, "prepared", benchVariant(variant));
  const recipe = [
    RECIPE,
    suite,
    BARE_PACKAGES,
    packagesOf(suite),
    imageFiles(suite),
    MASKED_UNITS,
    SWITCH_UNITS,
  ];
  const parts = [recipe, PATH_EXCLUDES, DOWNLOAD_HOOK, PREPARE_SCRIPT];
  const key = await hash(JSON.stringify(variant === undefined ? parts : [...parts, variant]));
  const prefix = variant === undefined ? "" : `${variant.name}-`;
  const bare = await ensureEntry(
    `${prefix}bare-${suite}-${key}`,
    (directory) => buildBare(suite, directory, variant),
  );
  const image = { suite, layers: [`${bare}/root`], repository: `${bare}/repository` };
  if (kind === "bare") return image;
  const prepared = await ensureEntry(
    `${prefix}prepared-${suite}-${key}`,
    (directory) => buildPrepared(suite, image, directory),
  );
  return { ...image, layers: [`${prepared}/layer`, ...image.layers] };
}

/** Twelve hexadecimal digits that stand for a text. */
export async function hash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return hex(digest).slice(0, 12);
}

function hex(bytes: ArrayBuffer): string {
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Builds an entry under a lock, so that two runs never build the same one; a half-made one never gets the name. */
export async function ensureEntry(
  name: string,
  build: (directory: string) => Promise<void>,
): Promise<string> {
  const path = `${cacheDirectory()}/${name}`;
  if (exists(path)) return path;
  await Deno.mkdir(cacheDirectory(), { recursive: true });
  using lock = await Deno.open(`${cacheDirectory()}/${name}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (exists(path)) return path;
  const temporary = `${path}.tmp`;
  await removeTree(temporary);
  await Deno.mkdir(temporary);
  try {
    await build(temporary);
    await Deno.rename(temporary, path);
  } finally {
    await removeTree(temporary);
  }
  return path;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Removes a root file system; stays on its own file system, in case something is mounted below. */
async function removeTree(path: string): Promise<void> {
  await must(["rm", "-rf", "--one-file-system", path]);
}

/** Copies the packages, with all they need beyond the bare system, out of the archive while its index is still there. */
const DOWNLOAD_HOOK =
  'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q -y --no-install-recommends --download-only ' +
  '-o Dir::Cache::archives="$LAB_REPOSITORY" -o APT::Sandbox::User=root -o APT::Keep-Downloaded-Packages=true ' +
  "install $LAB_PACKAGES";

async function buildBare(suite: Suite, directory: string, variant?: ImageVariant): Promise<void> {
  const root = `${directory}/root`;
  const repository = `${directory}/repository`;
  const files = `${directory}/files`;
  await Deno.mkdir(`${repository}/partial`, { recursive: true });
  await Deno.mkdir(files);
  for (const file of variant?.files ?? []) await writeFile(files, file);
  await must([
    "mmdebstrap",
    "--quiet",
    "--mode=root",
    "--variant=minbase",
    `--include=${[...BARE_PACKAGES, ...variant?.packages ?? []].join(",")}`,
    "--dpkgopt=force-unsafe-io",
    ...PATH_EXCLUDES.map((path) => `--dpkgopt=path-exclude=${path}`),
    ...(variant === undefined ? [] : [`--essential-hook=${FILES_HOOK}`]),
    `--customize-hook=${DOWNLOAD_HOOK}`,
    suite,
    root,
    ...variant?.sources ?? [],
  ], {
    env: {
      ...Deno.env.toObject(),
      LAB_FILES: files,
      LAB_REPOSITORY: repository,
      LAB_PACKAGES: packagesOf(suite).join(" "),
      TMPDIR: "/var/tmp",
    },
  });
  await configureBare(suite, root, variant);
  await removeTree(files);
  await indexRepository(repository);
}

/** A variant's files say how the kernel's initrd is made, so they are there before the kernel. */
const FILES_HOOK = 'cp -R "$LAB_FILES/." "$1/"';

async function configureBare(suite: Suite, root: string, variant?: ImageVariant): Promise<void> {
  for (const name of glob(`${root}/etc/ssh`, /^ssh_host_/)) await Deno.remove(name);
  for (const name of glob(`${root}/etc/apt/sources.list.d`, /./)) await Deno.remove(name);
  for (const file of imageFiles(suite)) await writeFile(root, file);
  await mask(root, [...MASKED_UNITS, ...variant?.masked ?? []]);
  await Deno.mkdir(`${root}/var/log/journal`, { recursive: true });
  const enabled = ["systemd-networkd.service", "ssh.service", ...variant?.enabled ?? []];
  await must(["chroot", root, "systemctl", "enable", ...enabled]);
  await must(["chroot", root, "systemctl", "disable", "ssh.socket"]);
  await must(["chroot", root, "systemctl", "set-default", "multi-user.target"]);
}

async function writeFile(root: string, { path, text, executable }: ImageFile): Promise<void> {
  const full = `${root}/${path}`;
  await Deno.mkdir(full.slice(0, full.lastIndexOf("/")), { recursive: true });
  await Deno.remove(full).catch(() => {});
  await Deno.writeTextFile(full, text);
  await Deno.chmod(full, executable ? 0o755 : 0o644);
}

function glob(directory: string, pattern: RegExp): string[] {
  return [...Deno.readDirSync(directory)].filter(({ name }) => pattern.test(name)).map(({ name }) =>
    `${directory}/${name}`
  );
}

async function mask(root: string, units: readonly string[]): Promise<void> {
  for (const unit of units) {
    const path = `${root}/etc/systemd/system/${unit}`;
    await Deno.remove(path).catch(() => {});
    await Deno.symlink("/dev/null", path);
  }
}

/** Writes `Packages` and `Release` of a flat repository (Debian's "repository format"). */
async function indexRepository(directory: string): Promise<void> {
  for (const name of ["partial", "lock"]) {
    await Deno.remove(`${directory}/${name}`, { recursive: true }).catch(() => {});
  }
  const files = glob(directory, /\.deb$/).sort();
  const stanzas: string[] = [];
  for (const file of files) stanzas.push(await stanza(file));
  const index = stanzas.join("\n");
  await Deno.writeTextFile(`${directory}/Packages`, index);
  const size = new TextEncoder().encode(index).length;
  const sum = await sha256(`${directory}/Packages`);
  const date = new Date().toUTCString().replace("GMT", "UTC");
  await Deno.writeTextFile(`${directory}/Release`, `Date: ${date}\nSHA256:\n ${sum} ${size} Packages\n`);
}

async function stanza(file: string): Promise<string> {
  const fields = (await must(["dpkg-deb", "-f", file])).trimEnd();
  const { size } = await Deno.stat(file);
  const name = file.slice(file.lastIndexOf("/") + 1);
  return `${fields}\nFilename: ./${name}\nSize: ${size}\nSHA256: ${await sha256(file)}\n`;
}

async function sha256(file: string): Promise<string> {
  return hex(await crypto.subtle.digest("SHA-256", await Deno.readFile(file)));
}

/**
 * Installs the packages from the repository just made and from nothing else, which also shows that the repository is complete. The
 * mounts live in a mount namespace of their own and end with it.
 */
const PREPARE_SCRIPT = `
root=$1 layer=$2 work=$3 lower=$4 repository=$5; shift 5
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$layer,workdir=$work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$repository" "$root/mnt"
for node in null zero full random urandom; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
printf '#!/bin/sh\\nexit 101\\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
echo 'deb [trusted=yes] file:/mnt ./' >"$root/tmp/sources.list"
sources="-o Dir::Etc::sourcelist=/tmp/sources.list"
apt="chroot $root apt-get -q -y $sources -o APT::Sandbox::User=root --no-install-recommends"
$apt update
$apt install "$@"
chroot "$root" apt-get clean
rm -rf "$root/usr/sbin/policy-rc.d" "$root/tmp/sources.list" "$root"/var/lib/apt/lists/* "$root"/var/log/apt/*
`;

async function buildPrepared(suite: Suite, bare: Image, directory: string): Promise<void> {
  const [root, layer, work] = ["root", "layer", "work"].map((name) => `${directory}/${name}`) as [
    string,
    string,
    string,
  ];
  for (const path of [root, layer, work]) await Deno.mkdir(path);
  await Deno.mkdir(`${layer}/etc/systemd/system`, { recursive: true });
  await mask(layer, SWITCH_UNITS);
  const script = [
    "sh",
    "-eu",
    "-c",
    PREPARE_SCRIPT,
    "sh",
    root,
    layer,
    work,
    bare.layers.join(":"),
    bare.repository,
  ];
  await must(["unshare", "--mount", "--propagation", "private", ...script, ...packagesOf(suite)], {
    env: { PATH: Deno.env.get("PATH") ?? "", DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" },
  });
  await removeTree(work);
  await Deno.remove(root);
}
