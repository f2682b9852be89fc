/**
 * What the `ssh` client's complaints mean: which may be tried again, which are final, and the way out. Pure.
 */
import { TransportError } from "../errors.ts";

interface Rule {
  readonly pattern: RegExp;
  readonly retry: boolean;
  /** What was found and what to do, without the host's name. */
  readonly explain: (match: RegExpMatchArray, stderr: string, address: string) => string;
}

/** First match wins: the most specific complaints stand first. */
const RULES: readonly Rule[] = [
  {
    pattern: /REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed/,
    retry: false,
    explain: (_match, stderr, address) => changedKey(stderr, address),
  },
  {
    pattern: /Host key verification failed|host key is known for/,
    retry: false,
    explain: (_match, _stderr, address) =>
      `its host key is not known; expected it in known_hosts. Check it with "ssh ${address}" once by hand, ` +
      "or trust every new key with --accept-new-host-keys",
  },
  {
    pattern: /Permission denied|Too many authentication failures/,
    retry: false,
    explain: (_match, stderr) =>
      `${lineWith(stderr, /Permission denied|Too many/)}; expected a login without a password. ` +
      "Add your key to the host's authorized_keys, or name user and key in hosts.yml (ansible_user, " +
      "ansible_ssh_private_key_file) or in your ssh configuration",
  },
  {
    pattern:
      /Bad configuration option|Can't open user config file|Bad owner or permissions|unsupported option/,
    retry: false,
    explain: (_match, stderr) =>
      `${lineWith(stderr, /Bad|Can't open|unsupported/)}; expected a working ssh configuration`,
  },
  {
    pattern: /Unable to negotiate with|no matching .* found/,
    retry: false,
    explain: (_match, stderr) =>
      `${lineWith(stderr, /Unable to negotiate|no matching/)}; expected an algorithm both sides accept`,
  },
  {
    pattern: /Could not resolve hostname/,
    retry: true,
    explain: () =>
      "its name cannot be resolved; expected an address, or a name that resolves. Check ansible_host",
  },
  {
    pattern: /Connection refused/,
    retry: true,
    explain: () => "connection refused; expected an SSH server there. Check that sshd runs and on which port",
  },
  {
    pattern: /timed out|Timeout, server|Timed out/,
    retry: true,
    explain: () =>
      "no answer in time; expected an SSH server there. Check the address, and firewalls on the way",
  },
  {
    pattern: /No route to host|Network is unreachable|Host is down/,
    retry: true,
    explain: () => "no route to it; expected a host that is up. Check the address and your own network",
  },
  {
    pattern:
      /Connection closed|Connection reset|closed by remote host|Broken pipe|kex_exchange_identification|Session open refused|read from master failed/,
    retry: true,
    explain: (_match, stderr) => `connection lost (${lastLine(stderr)}); expected it to stay`,
  },
];

/** Turns what ssh said into the error to throw; undefined when nothing in it is a complaint of ssh itself. */
export function classifySshFailure(
  host: string,
  address: string,
  stderr: string,
): TransportError | undefined {
  for (const { pattern, retry, explain } of RULES) {
    const match = stderr.match(pattern);
    if (match) {
      return new TransportError(`${host}: Cannot connect to ${address}: ${explain(match, stderr, address)}`, {
        retry,
      });
    }
  }
  return undefined;
}

/** The error for a connection that ended without a word. */
export function lostConnection(host: string, address: string, stderr: string): TransportError {
  const said = lastLine(stderr);
  return new TransportError(
    `${host}: Cannot reach ${address}: connection lost${said ? ` (${said})` : ""}; expected it to stay`,
    { retry: true },
  );
}

function changedKey(stderr: string, address: string): string {
  const [, file, line] = stderr.match(/Offending .*key in (.+):(\d+)/) ?? [];
  const where = file ? `the one in ${file}, line ${line}` : "the one in known_hosts";
  return `its host key has changed; expected ${where}. Somebody may be in between: find out why first. ` +
    `If the host was really installed anew: ssh-keygen -R ${address}${file ? ` -f ${file}` : ""}`;
}

function lineWith(text: string, pattern: RegExp): string {
  return text.split("\n").find((line) => pattern.test(line))?.trim() ?? lastLine(text);
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)?.trim() ?? "";
}
