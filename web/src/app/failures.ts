// Why a sign-in by another service failed: the server sends a code with the browser, never a text.

const texts: Record<string, string> = {
  no_provider: 'This server has no such service. Sign in by a password.',
  insecure: 'Over plain http a browser keeps no sign-in. Ask for https.',
  provider_unavailable: 'The service that signs you in can’t be reached now. Try again in a moment.',
  sign_in_expired: 'This sign-in took too long, was used before, or began in another window. Please begin again.',
  sign_in_denied: 'The service did not let you in, or you stopped there.',
  sign_in_refused: 'What the service answered can’t be believed. The server’s log tells an admin why.',
  no_account: 'There is no account for you here yet. Ask an admin for one.',
  name_taken: 'Another account here has your name. If it is yours, ask an admin to link it to this sign-in.',
  no_name: 'The service gave no name that an account can have. Ask an admin for an account.',
  email_not_allowed: 'Your email is not verified, or not of a domain that may sign in here.',
  inactive: 'Your account is not active. An admin can activate it.',
};

export function failureText(code: string): string {
  return texts[code] ?? 'The sign-in failed. Please try again.';
}
