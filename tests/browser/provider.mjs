// A certified OpenID provider for the tests of single sign-on: everybody who gives any password is who they say, and the
// groups are by name. Arguments: the library's folder, the port, and the address of the service that people sign in to.
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const [folder, port, service] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(join(folder, 'lib/index.js')));

const GROUPS = { ann: ['everybody', 'soc'], lea: ['soc', 'leads'], eve: ['guests'] };
const client = (name) => ({
  client_id: name,
  client_secret: `secret of ${name}`,
  redirect_uris: [`${service}/sign-in/callback`],
  post_logout_redirect_uris: [`${service}/sign-in`],
});

const provider = new Provider(`http://localhost:${port}`, {
  clients: [client('vedette'), client('another')],
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: `subject of ${id}`, preferred_username: id, groups: GROUPS[id] }),
  }),
  cookies: { keys: ['of a test'] },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
