#!/bin/sh
# The access token of a Google service account that another account impersonates, as a token response: grant = "command" of
# Cupbearer runs it. Needs curl and jq. GOOGLE_SERVICE_ACCOUNT and GOOGLE_SCOPE say whose it is and what for;
# GOOGLE_SOURCE_TOKEN is the command that prints a token of the account that impersonates it.
set -eu
api=${GOOGLE_IAM_API:-https://iamcredentials.googleapis.com}
source_token=$(${GOOGLE_SOURCE_TOKEN:-gcloud auth print-access-token})

body=$(jq --null-input --compact-output --arg scope "$GOOGLE_SCOPE" '{scope: ($scope | split(" ")), lifetime: "3600s"}')
# By standard input: every user of the machine can read a program's arguments.
response=$(printf 'Authorization: Bearer %s\n' "$source_token" |
  curl --silent --show-error --fail --max-time 20 --header @- --header 'Content-Type: application/json' --data "$body" \
    "$api/v1/projects/-/serviceAccounts/$GOOGLE_SERVICE_ACCOUNT:generateAccessToken")
printf '%s' "$response" |
  jq --compact-output '{access_token: .accessToken, expires_at: .expireTime, token_type: "Bearer"}'
