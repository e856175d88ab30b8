// pages.mjs BASE: all pages of a list by Octokit, as of a GitHub Enterprise Server at BASE. Tells the items, or what went wrong.
import { Octokit } from '@octokit/core';
import { paginateRest } from '@octokit/plugin-paginate-rest';

const octokit = new (Octokit.plugin(paginateRest))({ baseUrl: process.argv[2] });
try {
  const items = await octokit.paginate('GET /repos/{owner}/{repo}/issues', { owner: 'o', repo: 'r', per_page: 1 });
  console.log(JSON.stringify({ items: items.map(({ number }) => number) }));
} catch (error) {
  console.log(JSON.stringify({ status: error.status }));
}
