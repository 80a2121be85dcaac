-- Before a job said by what right it has its user's name, only administrators gave it another's.
UPDATE jobs SET via = 'admin' WHERE login_user <> run_user AND via = 'own';
