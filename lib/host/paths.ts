/**
 * Where things lie on a host. Constants only.
 */
export const INSTALL_DIR = "/opt/mobula";
export const GENERATIONS_DIR = `${INSTALL_DIR}/generations`;
export const CURRENT_LINK = `${INSTALL_DIR}/current`;
export const BASELINE_FILE = `${INSTALL_DIR}/baseline.json`;
export const CAPABILITIES_FILE = `${INSTALL_DIR}/capabilities.json`;
/** Which keys the hosts may be using, while they are being replaced. */
export const KEYS_FILE = `${INSTALL_DIR}/keys.json`;
export const STATE_FILE = `${INSTALL_DIR}/state.json`;
export const EXECUTABLE = `${INSTALL_DIR}/bin/mobula`;
/** While it is there, the host goes back by itself unless somebody confirms in time. */
export const ARMED_FILE = `${INSTALL_DIR}/armed.json`;
/** The distribution's units that were masked by us, and not before. */
export const MASKED_FILE = `${INSTALL_DIR}/masked.json`;
/** The packages that an installation has brought, and their dependencies. */
export const PACKAGES_FILE = `${INSTALL_DIR}/packages.json`;
/** How the last activation went; gone after a boot, so that no old word counts. */
export const ACTIVATION_FILE = "/run/mobula/activation.json";
/** The text of KEYS_FILE that `mobula follow` goes by. */
export const FOLLOWED_FILE = "/run/mobula/followed";
/** Why what is armed has failed already: it is taken back at once. In /run, which no full disk keeps from being written. */
export const FAILURE_FILE = "/run/mobula/failure";
/** The identity of the executable's file, and on a second line its SHA-256; gone after a boot. */
export const HASH_FILE = "/run/mobula/executable";
/** What tells that a file is the same, for `stat -c`: inode, size, time of the content and of the inode. */
export const FILE_IDENTITY = "%i %s %y %z";
export const LOCK_FILE = "/run/mobula/lock";
/** Held for the moment in which what is armed is changed. */
export const ARMED_LOCK_FILE = "/run/mobula/armed.lock";
/** Services that have to reload a changed file, and may not have done so yet. */
export const PENDING_DIR = "/run/mobula/pending";
