/**
 * What must be unique across hosts and files: ids, names, addresses, keys. Pure.
 */
import { hostAddresses } from "../address.ts";
import type { ExtraHostDraft, ExtraWireDraft } from "./extras.ts";
import type { HostDraft } from "./hosts.ts";
import { describe, type KeyPath, type Problems, renderPath } from "./problems.ts";

/** The entries of all three files. */
export interface Drafts {
  readonly hosts: readonly HostDraft[];
  readonly extraHosts: readonly ExtraHostDraft[];
  readonly extraWires: readonly ExtraWireDraft[];
}

/** A value that only one place may have, and where it was found. */
interface Claim {
  readonly value: string | number | undefined;
  readonly shown?: unknown;
  readonly file: string;
  readonly path: KeyPath;
}

/** Reports every value that two entries claim; `files` names the file of each kind of entry. */
export function crossCheck(drafts: Drafts, files: Record<keyof Drafts, string>, problems: Problems): void {
  const { hosts } = drafts;
  const inHost = ({ path }: HostDraft, ...keys: string[]) => ({
    file: files.hosts,
    path: [...path, ...keys],
  });
  const extraHosts = drafts.extraHosts.map((extra) => ({ ...extra, file: files.extraHosts }));
  const extraWires = drafts.extraWires.map((wire) => ({ ...wire, file: files.extraWires }));

  checkUnique("an id", hosts.map((host) => ({ value: host.id, ...inHost(host, "host_id") })), problems);
  checkUnique("a host name", [
    ...hosts.map((host) => ({ ...name(host), ...inHost(host, "hostname") })),
    ...extraHosts.map((extra) => ({ ...name(extra), file: extra.file, path: extra.path })),
  ], problems);
  checkUnique("an SSH address", hosts.map((host) => ({ ...sshEndpoint(host), ...inHost(host) })), problems);
  checkUnique("a key", [
    ...hosts.map((host) => ({
      value: host.pinnedKeys?.publicKey,
      ...inHost(host, "wireguard", "public_key"),
    })),
    ...extraWires.map(({ publicKey, file, path }) => ({ value: publicKey, file, path })),
  ], problems);
  checkCollisions(
    hosts,
    extraHosts.map(({ address, file, path }) => ({ value: address, file, path })),
    problems,
  );
}

/** Names are compared without regard to case. */
function name({ hostname }: { readonly hostname?: string }): Pick<Claim, "value" | "shown"> {
  return { value: hostname?.toLowerCase(), shown: hostname };
}

function sshEndpoint({ ssh }: HostDraft): Pick<Claim, "value" | "shown"> {
  return ssh
    ? { value: `${ssh.host.toLowerCase()} ${ssh.port ?? ""}`, shown: ssh.host }
    : { value: undefined };
}

function checkUnique(what: string, claims: readonly Claim[], problems: Problems): void {
  const owners = new Map<string | number, Claim>();
  for (const claim of claims) {
    if (claim.value === undefined) continue;
    const owner = owners.get(claim.value);
    if (owner) problems.add(duplicate(what, claim, owner));
    else owners.set(claim.value, claim);
  }
}

function duplicate(what: string, claim: Claim, owner: Claim) {
  const place = [...(owner.file === claim.file ? [] : [owner.file]), renderPath(owner.path)].join(": ");
  const found = describe(claim.shown ?? claim.value);
  const message = `found ${found}; expected ${what} of its own, ${place} has it`;
  return { file: claim.file, path: renderPath(claim.path), message };
}

/** An extra host cannot have the access address of a host or of its gateway. */
function checkCollisions(hosts: readonly HostDraft[], claims: readonly Claim[], problems: Problems): void {
  const owners = new Map<string | number, string>();
  for (const { id, path } of hosts) {
    if (id === undefined) continue;
    const { access, gateway } = hostAddresses(id);
    owners.set(access, `the host ${renderPath(path)}`).set(gateway, `the gateway of ${renderPath(path)}`);
  }
  for (const { value = "", file, path } of claims) {
    const owner = owners.get(value);
    if (!owner) continue;
    problems.in(file)(path, `found ${describe(value)}; expected a free address, ${owner} has it`);
  }
}
