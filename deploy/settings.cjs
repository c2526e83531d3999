"use strict";

// ${file(./deploy/settings.cjs):…} of serverless.yml: the configuration, as the application itself reads it. Without the
// functions' variables, which deploy/plugin.cjs takes: `sls` would look for variables of its own in a password.

const { runModule } = require("./python.cjs");

let resolved;

function resolve(options) {
  if (resolved === undefined) {
    // `--region` counts as the variable does; for a `--stage` the configuration must have been made.
    const extra = options.region ? { ELASTICPYPI_REGION: options.region } : {};
    const args = options.stage ? [`--stage=${options.stage}`] : [];
    try {
      resolved = JSON.parse(runModule("deploy.settings", args, extra).stdout);
    } catch (error) {
      error.name = error.stack = ""; // or `sls` prints it, too
      throw error;
    }
  }
  return resolved;
}

module.exports = ({ options }) => {
  const { environment, authorizations, ...settings } = resolve(options);
  return settings;
};
module.exports.functionEnvironment = (options) => resolve(options).environment;
// Of who is let in by CloudFront: digests of credentials.
module.exports.authorizations = (options) => resolve(options).authorizations ?? [];
