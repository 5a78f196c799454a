"""The spec that `headrace spec --example` prints."""

EXAMPLE = """\
# A spec to start from. docs/spec.md explains every field; `headrace spec FILE` checks yours.
agent: card-fraud
source: {topic: transactions, key: $.card_id, time: $.at, start: latest}
features:                                     # what is not listed is not seen
  amount: {type: number, range: [0, 1e6]}     # missing: reject (default), skip, or a value
  hour: {type: number, range: [0, 24]}
  merchant: {type: category, encode: hash, buckets: 32}
model:                                        # `headrace catalog` lists what there is
  - preprocessing.MaxAbsScaler                # a category's 0 and 1 stay as they are
  - linear_model.LogisticRegression: {optimizer: {optim.SGD: {lr: 0.05}}}
label: {field: $.fraud}
decide: {verdict: {block: 0.9, review: 0.6, else: allow}}
"""
