-- Actions of which the enforcement points have said something, or nothing in time.
create index actions_effect on actions (effect, state, id) where effect is not null;
