-- +goose Up

-- What earned nothing is bounded for each vehicle and day, and refusals do not stay for good.
CREATE INDEX submissions_unearned ON submissions (vehicle, day) WHERE accepted = 0 OR original IS NOT NULL;
CREATE INDEX submissions_refused ON submissions (day) WHERE accepted = 0;

-- +goose Down
DROP INDEX submissions_refused;
DROP INDEX submissions_unearned;
