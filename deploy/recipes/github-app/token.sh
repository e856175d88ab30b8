#!/bin/sh
# The access token of an installation of a GitHub App, as a token response: grant = "command" of Cupbearer runs it.
# Needs openssl, curl and jq. GITHUB_CLIENT_ID, GITHUB_INSTALLATION_ID and GITHUB_KEY_FILE say whose it is.
set -eu
api=${GITHUB_API:-https://api.github.com}

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

now=$(date +%s)
header=$(printf '{"alg":"RS256","typ":"JWT"}' | base64url)
# GitHub allows ten minutes; a minute in the past is for a clock that is ahead.
claims=$(printf '{"iat":%d,"exp":%d,"iss":"%s"}' "$((now - 60))" "$((now + 540))" "$GITHUB_CLIENT_ID" | base64url)
signature=$(printf '%s.%s' "$header" "$claims" | openssl dgst -sha256 -sign "$GITHUB_KEY_FILE" -binary | base64url)

# By standard input: every user of the machine can read a program's arguments.
response=$(printf 'Authorization: Bearer %s.%s.%s\n' "$header" "$claims" "$signature" |
  curl --silent --show-error --fail --max-time 20 --request POST --header @- \
    --header 'Accept: application/vnd.github+json' --header 'X-GitHub-Api-Version: 2022-11-28' \
    "$api/app/installations/$GITHUB_INSTALLATION_ID/access_tokens")
printf '%s' "$response" | jq --compact-output '{access_token: .token, expires_at: .expires_at, token_type: "Bearer"}'
